//! Shared by the test programs.

// Each test program uses only part of this.
#![allow(dead_code)]

pub(crate) mod browser;
pub(crate) mod csv;
pub(crate) mod damage;
pub(crate) mod foreign;
pub(crate) mod mutations;
pub(crate) mod picture;
pub(crate) mod program;
pub(crate) mod reference;
pub(crate) mod schema;
pub(crate) mod sweeps;
pub(crate) mod tensors;
pub(crate) mod words;
