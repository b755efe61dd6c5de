//! Projections and where their weights lie in the stored tensors.
#![forbid(unsafe_code)]

/// `y = output_scale (W input_scale x + b)`; both factors are usually 1. Where there is a low-rank part,
/// `up(down(input_scale x))` is added inside the brackets.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Tensor that holds the weight (perhaps among others' rows).
    pub weight: String,
    /// Tensor that holds the bias, sliced like the weight.
    pub bias: Option<String>,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// How the stored tensor is laid out.
    pub layout: WeightLayout,
    /// First output of this projection inside a fused tensor.
    pub first_output: usize,
    /// Outputs of the whole stored tensor.
    pub stored_outputs: usize,
    /// Outputs that are not contiguous in the stored tensor.
    pub groups: Option<RowGroups>,
    /// Tensors that stack the experts along their first axis: which one, of how many.
    pub stacked: Option<(usize, usize)>,
    /// Factor on the input; not 0.
    pub input_scale: f32,
    /// Factor on the output, the bias included.
    pub output_scale: f32,
    /// To a narrow middle and from there to the outputs, added to `W x`: what one of several users of a shared
    /// weight has of its own.
    pub low_rank: Option<Box<[Linear; 2]>>,
}

impl Linear {
    /// A projection with a tensor of its own, stored as PyTorch's `nn.Linear` does.
    pub fn new(weight: String, in_features: usize, out_features: usize) -> Self {
        Self {
            weight,
            bias: None,
            in_features,
            out_features,
            layout: WeightLayout::OutIn,
            first_output: 0,
            stored_outputs: out_features,
            groups: None,
            stacked: None,
            input_scale: 1.0,
            output_scale: 1.0,
            low_rank: None,
        }
    }

    /// With this low-rank part: down to its middle, up to the outputs.
    #[must_use]
    pub fn with_low_rank(mut self, down: Self, up: Self) -> Self {
        self.low_rank = Some(Box::new([down, up]));
        self
    }

    /// With a bias tensor.
    #[must_use]
    pub fn with_bias(mut self, bias: Option<String>) -> Self {
        self.bias = bias;
        self
    }

    /// With another layout of the stored weight.
    #[must_use]
    pub fn with_layout(mut self, layout: WeightLayout) -> Self {
        self.layout = layout;
        self
    }

    /// The outputs `first..first + out_features` of a tensor with `stored_outputs` of them.
    #[must_use]
    pub fn part_of(mut self, first: usize, stored_outputs: usize) -> Self {
        self.first_output = first;
        self.stored_outputs = stored_outputs;
        self
    }

    /// Of every `stride` outputs of the stored tensor, `size` from `first` on.
    #[must_use]
    pub fn grouped(mut self, first: usize, size: usize, stride: usize, stored: usize) -> Self {
        self.groups = Some(RowGroups { size, stride });
        self.part_of(first, stored)
    }

    /// With these factors on input and output.
    #[must_use]
    pub fn scaled(mut self, input: f32, output: f32) -> Self {
        (self.input_scale, self.output_scale) = (input, output);
        self
    }

    /// In tensors that stack `count` experts along their first axis.
    #[must_use]
    pub fn stacked(mut self, count: usize) -> Self {
        self.stacked = Some((0, count));
        self
    }

    /// The projection of one expert: `{}` in the names becomes its number, and in stacked tensors
    /// its slice is taken.
    #[must_use]
    pub fn of_expert(&self, expert: usize) -> Self {
        let named = |name: &String| name.replace("{}", &expert.to_string());
        Self {
            weight: named(&self.weight),
            bias: self.bias.as_ref().map(named),
            stacked: self.stacked.map(|(_, count)| (expert, count)),
            low_rank: self.low_rank.clone(),
            ..*self
        }
    }

    /// The tensors it reads.
    pub fn tensors(&self) -> Vec<String> {
        let bias = self.bias.iter().cloned();
        [self.weight.clone()].into_iter().chain(bias).collect()
    }

    /// Where output `index` lies in the stored tensor.
    pub fn stored_output(&self, index: usize) -> usize {
        match self.groups {
            None => self.first_output + index,
            Some(RowGroups { size, stride }) => {
                self.first_output + index / size * stride + index % size
            }
        }
    }
}

/// Order of the axes of a stored weight. One that is packed is `[out, in]` whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in]`: PyTorch's `nn.Linear`.
    OutIn,
    /// `[in, out]`: the `Conv1D` of GPT-2.
    InOut,
}

/// Outputs of a fused tensor that come in groups of `size`, `stride` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroups {
    /// Outputs in a group.
    pub size: usize,
    /// Distance between the first outputs of two groups.
    pub stride: usize,
}
