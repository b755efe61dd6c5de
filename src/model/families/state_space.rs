//! Mamba-2's layers under the names that its relatives share (transformers `modeling_bamba.py`,
//! `BambaMixer`, and others).
#![forbid(unsafe_code)]

use serde_json::Value;

use super::parts::{LayerParts, NormStyle, activation, consecutive};
use crate::{
    error::Result,
    model::{
        config::Config,
        spec::{Activation, Convolution, StateSpace, Vector},
    },
};

/// Sizes and settings of a model's state space layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mamba2 {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) groups: usize,
    pub(super) state: usize,
    /// Taps of the convolutions.
    pub(super) width: usize,
    pub(super) convolution_bias: bool,
    pub(super) in_bias: bool,
    pub(super) out_bias: bool,
    /// Behind the convolutions.
    pub(super) activation: Activation,
    pub(super) epsilon: f32,
    pub(super) dt_limits: (f32, f32),
}

impl Mamba2 {
    /// The keys of Bamba, Granite and Falcon-H1, `mamba_d_head` and so on; the heads have `inner` values
    /// together.
    pub(super) fn read(config: &Config, hidden: usize, inner: usize, epsilon: f32) -> Result<Self> {
        let heads = config.heads("mamba_n_heads")?;
        const WIDTH: &str = "mamba_d_head";
        let head_dim = match config.raw(WIDTH) {
            None => inner / heads,
            Some(Value::String(auto)) if auto == "auto" => inner / heads,
            Some(_) => config.size(WIDTH)?,
        };
        if heads.checked_mul(head_dim) != Some(inner) {
            return Err(config.refuse(
                "mamba_n_heads",
                &format!("heads of {head_dim} values are not {inner} together"),
            ));
        }
        let bias = config.flag_or("mamba_proj_bias", false)?;
        Ok(Self {
            hidden,
            heads,
            head_dim,
            groups: config.size_or("mamba_n_groups", 1)?,
            state: config.size_or("mamba_d_state", 256)?,
            width: config.size_or("mamba_d_conv", 4)?,
            convolution_bias: config.flag_or("mamba_conv_bias", true)?,
            in_bias: bias,
            out_bias: bias,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
            epsilon,
            dt_limits: limits(config, "time_step_limit")?,
        })
    }

    /// The layer in `module`; its output is normalised in the groups that share the state's inputs.
    pub(super) fn mixer(&self, parts: &LayerParts<'_>, module: &str) -> StateSpace {
        let (inner, shared) = (self.heads * self.head_dim, self.groups * self.state);
        let fused = parts.linear(
            &format!("{module}.in_proj"),
            self.hidden,
            2 * inner + 2 * shared + self.heads,
            self.in_bias,
        );
        let [gate, x, b, c, dt] = consecutive(&fused, [inner, inner, shared, shared, self.heads]);
        let name = |tensor: &str| parts.name(&format!("{module}.{tensor}"));
        let convolution = Convolution::new(
            &name("conv1d"),
            inner + 2 * shared,
            self.width,
            self.convolution_bias,
        )
        .activated(self.activation);
        let convolved = |first, channels| convolution.clone().part(first, channels);
        let mut norm = NormStyle::rms(f64::from(self.epsilon)).norm(&name("norm"), inner);
        // The factor is a value a column all the same.
        norm.width = inner / self.groups;
        StateSpace {
            heads: self.heads,
            head_dim: self.head_dim,
            groups: self.groups,
            state: self.state,
            gate,
            x,
            b,
            c,
            dt,
            convolutions: [
                convolved(0, inner),
                convolved(inner, shared),
                convolved(inner + shared, shared),
            ],
            a_log: Vector::new(name("A_log"), self.heads),
            dt_bias: Vector::new(name("dt_bias"), self.heads),
            d: Vector::new(name("D"), self.heads),
            dt_limits: self.dt_limits,
            norm: Some(norm),
            norm_first: false,
            out: parts.linear(
                &format!("{module}.out_proj"),
                inner,
                self.hidden,
                self.out_bias,
            ),
        }
    }
}

/// Least and greatest step size.
pub(super) fn limits(config: &Config, key: &str) -> Result<(f32, f32)> {
    let Some(value) = config.raw(key) else {
        return Ok((0.0, f32::INFINITY));
    };
    // Infinity as Python's json writes it, or transformers.
    let number = |value: &Value| {
        let name = value.get("__float__").unwrap_or(value).as_str();
        match name {
            Some("Infinity") => Some(f32::INFINITY),
            Some("-Infinity") => Some(f32::NEG_INFINITY),
            _ => value.as_f64().map(|number| number as f32),
        }
    };
    let both = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let both: Option<Vec<f32>> = both.iter().map(number).collect();
    match *both.unwrap_or_default() {
        [low, high] if low <= high => Ok((low, high)),
        _ => Err(config.refuse(key, "a least and a greatest number are expected")),
    }
}

/// The factors under `key`, `N` of them, or 1 each.
pub(super) fn factors<const N: usize>(config: &Config, key: &str) -> Result<[f32; N]> {
    let Some(found) = config.numbers_opt(key)? else {
        return Ok([1.0; N]);
    };
    let found: Vec<f32> = found.into_iter().map(|factor| factor as f32).collect();
    <[f32; N]>::try_from(found)
        .map_err(|_| config.refuse(key, &format!("{N} numbers are expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_any_library_writes_them() {
        let read = |text: &str| {
            let config = Config::parse(text.as_bytes()).expect("an object");
            limits(&config, "time_step_limit").ok()
        };
        let free = Some((0.0, f32::INFINITY));
        assert_eq!(read("{}"), free);
        assert_eq!(read(r#"{"time_step_limit": [0.0, Infinity]}"#), free);
        let tagged = r#"{"time_step_limit": [0.0, {"__float__": "Infinity"}]}"#;
        assert_eq!(read(tagged), free);
        assert_eq!(read(r#"{"time_step_limit": [0.1, 2]}"#), Some((0.1, 2.0)));
        for wrong in [
            "null",
            "[0.0]",
            "[1.0, 0.0]",
            r#"[0.0, "NaN"]"#,
            "[0.0, 1.0, 2.0]",
            r#"[0.0, "x", 1.0]"#,
        ] {
            assert_eq!(
                read(&format!(r#"{{"time_step_limit": {wrong}}}"#)),
                None,
                "{wrong}"
            );
        }
    }
}
