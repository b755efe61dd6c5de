//! Records what the binary was built from, and compiles the CUDA kernels into it where there is nvcc.

#[path = "build/constants.rs"]
mod constants;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/provenance.rs"]
mod provenance;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    provenance::record();
    constants::hand_over();
    kernels::embed();
}
