//! What the heads of a layer give to the output of attention, as it is told.
#![forbid(unsafe_code)]

/// Of the heads of one sequence in a layer, `[heads, tokens]` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadOutputs {
    /// Euclidean norm of a head's output for a token, behind its gate.
    pub own: Vec<f64>,
    /// Norm of what the output projection, without its bias, makes of it.
    pub projected: Vec<f64>,
    /// The latter in two parts, if the plan names keys.
    pub parts: Option<HeadParts>,
}

/// What the plan's keys give to a head's output through the projection, m, and the rest of it, r.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadParts {
    /// Norm of m.
    pub followed: Vec<f64>,
    /// Norm of r.
    pub rest: Vec<f64>,
    /// Cosine of both; not a number where one is zero.
    pub cosine: Vec<f64>,
}

impl HeadOutputs {
    /// Those of some of the tokens.
    pub(super) fn of_rows(&self, rows: std::ops::Range<usize>, tokens: usize) -> Self {
        let cut = |values: &Vec<f64>| {
            let heads = values.chunks(tokens.max(1));
            heads.flat_map(|head| head[rows.clone()].to_vec()).collect()
        };
        Self {
            own: cut(&self.own),
            projected: cut(&self.projected),
            parts: self.parts.as_ref().map(|parts| HeadParts {
                followed: cut(&parts.followed),
                rest: cut(&parts.rest),
                cosine: cut(&parts.cosine),
            }),
        }
    }
}
