//! The `massact` binary.
fn main() {
    massact::interrupt::install();
}
