//! What stands in a layer beside attention or in its place, against the CPU's.

use massact::{
    Result,
    backend::{Convolutions, Filter, Tensors, cpu::Cpu},
    model::{dtype::DType, spec::Activation},
};

use crate::{
    bench::{DTYPES, backends, near, noise, rounding},
    operations::agree,
};

#[test]
fn convolutions() {
    for dtype in DTYPES {
        // One tap, more taps than tokens, several blocks.
        for (channels, width, bias, activation) in [
            (1, 1, false, None),
            (13, 7, true, None),
            (300, 4, true, Some(Activation::Silu)),
        ] {
            let x = noise(9 * channels, 1, dtype);
            agree!(format!("{channels} channels, {width} taps"), dtype, 1.0, b => {
                let vector = |count, seed| b.vector(noise(count, seed, DType::Float32));
                let filter = Filter {
                    width,
                    weight: vector(channels * width, 2)?,
                    bias: bias.then(|| vector(channels, 3)).transpose()?,
                    activation,
                };
                let x = b.upload(9, channels, x.clone())?;
                b.download(&b.convolve(&x, &[0..3, 3..4, 4..9], &filter)?)
            });
        }
    }
}
