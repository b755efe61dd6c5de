//! The attention output in two parts (section 4.2 of arXiv 2402.17762).
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::engine::{AttentionParts, HeadOutputs};

/// What attention adds for a query t is `a_t = W_o [sum_j p_tj v_j]`, heads side by side, without the
/// projection's bias and before any norm or factor on the way to the residual stream. It is the sum of
/// what the followed tokens C give, `m_t = W_o [sum over j in C of p_tj v_j]`, and the rest,
/// `r_t`, which is summed over the other keys and not a difference, so that it has digits where m is nearly all.
///
/// All values are means over the queries: tokens outside C that see at least one token of C. They are
/// null without queries. If the followed tokens act as a bias, `m_t` is much the same for all queries
/// (`similarity_followed` near 1).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decomposition {
    /// How many queries there are.
    pub queries: usize,
    /// Mean `|a_t|` (Euclidean norm).
    pub norm_attention: Option<f64>,
    /// Mean `|m_t|`.
    pub norm_followed: Option<f64>,
    /// Mean `|r_t|`.
    pub norm_rest: Option<f64>,
    /// Mean cosine of `m_t` and `r_t`; queries where either is zero do not count.
    pub cosine: Option<f64>,
    /// Mean cosine of `m_t` and `m_u` over all pairs of different queries.
    pub similarity_followed: Option<f64>,
    /// Mean cosine of `r_t` and `r_u` over all pairs of different queries.
    pub similarity_rest: Option<f64>,
    /// What each head gives of it.
    pub heads: Vec<HeadDecomposition>,
}

/// The same of one head: `a_t`, `m_t` and `r_t` are what the output projection makes of this head alone, so
/// that the vectors of all heads add up to those above.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadDecomposition {
    /// 0-based index.
    pub head: usize,
    /// Mean `|a_t|`.
    pub norm_attention: Option<f64>,
    /// Mean `|m_t|`.
    pub norm_followed: Option<f64>,
    /// Mean `|r_t|`.
    pub norm_rest: Option<f64>,
    /// Mean cosine of `m_t` and `r_t`; queries where either is zero do not count.
    pub cosine: Option<f64>,
}

impl HeadDecomposition {
    /// Of all heads, for the same queries as [`Decomposition::of`].
    pub(super) fn of(followed: &[usize], sees: &[bool], outputs: &HeadOutputs) -> Vec<Self> {
        let tokens = sees.len();
        let Some(parts) = outputs.parts.as_ref().filter(|_| tokens > 0) else {
            return Vec::new();
        };
        let is_query = |query: usize| sees[query] && !followed.contains(&query);
        let mean = |values: &[f64], head: usize| {
            let own = values.iter().skip(head * tokens).take(tokens).enumerate();
            let counted = own.filter(|(query, value)| is_query(*query) && value.is_finite());
            let counted: Vec<f64> = counted.map(|(_, value)| *value).collect();
            (!counted.is_empty()).then(|| counted.iter().sum::<f64>() / counted.len() as f64)
        };
        (0..outputs.projected.len() / tokens)
            .map(|head| Self {
                head,
                norm_attention: mean(&outputs.projected, head),
                norm_followed: mean(&parts.followed, head),
                norm_rest: mean(&parts.rest, head),
                cosine: mean(&parts.cosine, head),
            })
            .collect()
    }
}

impl Decomposition {
    /// `sees` says of each query whether it sees a followed token.
    pub(super) fn of(followed: &[usize], sees: &[bool], parts: AttentionParts<'_>) -> Self {
        let columns = parts.columns;
        let mut queries = 0;
        let mut norms = [0.0; 3];
        let (mut cosines, mut angles) = (0.0, 0usize);
        let mut directions = [Directions::new(columns), Directions::new(columns)];
        let [whole, part, rest] =
            [parts.whole, parts.followed, parts.rest].map(|values| values.chunks_exact(columns));
        for (query, ((whole, part), rest)) in whole.zip(part).zip(rest).enumerate() {
            if followed.contains(&query) || sees.get(query) != Some(&true) {
                continue;
            }
            queries += 1;
            let [whole, part, rest]: [Vec<f64>; 3] =
                [whole, part, rest].map(|values| values.iter().copied().map(f64::from).collect());
            let each = [&whole, &part, &rest].map(|vector| dot(vector, vector).sqrt());
            for (sum, norm) in norms.iter_mut().zip(each) {
                *sum += norm;
            }
            if each[1] > 0.0 && each[2] > 0.0 {
                cosines += dot(&part, &rest) / (each[1] * each[2]);
                angles += 1;
            }
            directions[0].add(&part, each[1]);
            directions[1].add(&rest, each[2]);
        }
        let mean = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        let [followed, rest] = directions.map(Directions::similarity);
        Self {
            queries,
            norm_attention: mean(norms[0], queries),
            norm_followed: mean(norms[1], queries),
            norm_rest: mean(norms[2], queries),
            cosine: mean(cosines, angles),
            similarity_followed: followed,
            similarity_rest: rest,
            heads: Vec::new(),
        }
    }
}

/// The sum of unit vectors, which holds the sum of the cosines of all pairs.
struct Directions {
    sum: Vec<f64>,
    count: usize,
}

impl Directions {
    fn new(columns: usize) -> Self {
        Self {
            sum: vec![0.0; columns],
            count: 0,
        }
    }

    fn add(&mut self, vector: &[f64], norm: f64) {
        if norm > 0.0 {
            for (sum, value) in self.sum.iter_mut().zip(vector) {
                *sum += value / norm;
            }
            self.count += 1;
        }
    }

    /// `|sum u_t|^2 = n + sum over ordered pairs of cos(u_t, u_s)`.
    fn similarity(self) -> Option<f64> {
        let count = self.count as f64;
        (self.count > 1).then(|| (dot(&self.sum, &self.sum) - count) / (count * (count - 1.0)))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::HeadParts;

    #[test]
    fn means_over_the_queries_that_see_one() {
        // Token 0 is followed; token 3 does not see it.
        let whole = [9.0, 9.0, 3.0, 4.0, 3.0, 0.0, 7.0, 7.0];
        let followed = [9.0, 0.0, 3.0, 0.0, 3.0, -4.0, 7.0, 0.0];
        let rest = [0.0, 9.0, 0.0, 4.0, 0.0, 4.0, 0.0, 7.0];
        let parts = AttentionParts {
            columns: 2,
            whole: &whole,
            followed: &followed,
            rest: &rest,
        };
        let sees = [true, true, true, false];
        let found = Decomposition::of(&[0], &sees, parts);
        assert_eq!(found.queries, 2);
        assert_eq!(found.norm_attention, Some(4.0));
        assert_eq!(found.norm_followed, Some(4.0));
        assert_eq!(found.norm_rest, Some(4.0));
        assert_eq!(found.cosine, Some((0.0 - 0.8) / 2.0));
        let near = |value: Option<f64>, truth: f64| {
            let value = value.expect("two queries");
            assert!((value - truth).abs() < 1e-12, "{value}");
        };
        near(found.similarity_followed, 0.6);
        near(found.similarity_rest, 1.0);
    }

    #[test]
    fn heads_have_the_same_queries() {
        let outputs = HeadOutputs {
            own: vec![0.0; 8],
            projected: vec![9.0, 3.0, 5.0, 9.0, 9.0, 1.0, 1.0, 9.0],
            parts: Some(HeadParts {
                followed: vec![9.0, 2.0, 0.0, 9.0, 9.0, 1.0, 3.0, 9.0],
                rest: vec![9.0, 1.0, 5.0, 9.0, 9.0, 0.5, 1.5, 9.0],
                cosine: vec![1.0, 0.5, f64::NAN, 1.0, 1.0, -1.0, 0.0, 1.0],
            }),
        };
        let found = HeadDecomposition::of(&[0], &[true, true, true, false], &outputs);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].norm_attention, Some(4.0));
        assert_eq!(found[0].norm_followed, Some(1.0));
        assert_eq!(found[0].norm_rest, Some(3.0));
        assert_eq!(found[0].cosine, Some(0.5));
        assert_eq!(
            (found[1].norm_rest, found[1].cosine),
            (Some(1.0), Some(-0.5))
        );
        let none = HeadDecomposition::of(&[0], &[true, false, false, false], &outputs);
        assert_eq!(none[1].norm_attention, None);
    }

    #[test]
    fn a_single_token_has_no_query() {
        let parts = AttentionParts {
            columns: 2,
            whole: &[1.0, 2.0],
            followed: &[1.0, 2.0],
            rest: &[0.0, 0.0],
        };
        let found = Decomposition::of(&[0], &[true], parts);
        assert_eq!(found.queries, 0);
        assert_eq!(found.norm_attention, None);
        assert_eq!(found.similarity_rest, None);
    }
}
