//! Products with a weight that is packed once.
//!
//! The outputs of a weight lie in panels as wide as a tile, `[panel][in][width]`, which all threads read. Each
//! thread takes some rows of the activations, packs them into its second-level cache a part of the inputs
//! at a time, and walks over the panels. A sum adds up the same numbers in the same order whatever the
//! number of rows and threads, and whatever the instructions.
#![forbid(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::{
    kernels::{Begin, Kernel, Left, interleave, pair_lines, pair_neighbours},
    pool::{Buffer, Pool},
};
use crate::{
    interrupt,
    model::weights::{MatrixView, PackedMatrix},
};

/// Steps at a time at most: a tile's part of the activations (27 KiB) stays in the first-level cache.
const DEPTH: usize = 576;

/// Rows of a task at most: with [`DEPTH`] steps a fifth of a second-level cache, which two threads may share. With
/// fewer, panels of a large weight would come more often from far.
const ROWS: usize = 96;

/// Outputs of a panel are converted this many inputs at a time, an even number.
const STRIP: usize = 64;

/// Outputs of a weight by inputs that are decoded at a time.
const GROUP: usize = 256;

/// Values of a line of a cache: panels begin at one, so that no load takes two.
const LINE: usize = 16;

/// A weight `[out, in]`, packed.
#[derive(Debug)]
pub(super) struct Panels {
    kernel: Kernel,
    outputs: usize,
    inputs: usize,
    /// Steps that a tile takes for all inputs.
    depth: usize,
    values: Buffer,
    /// Where the first panel begins.
    begin: usize,
}

impl Panels {
    /// Of a stored matrix, converted on the way.
    pub(super) fn of_view(kernel: Kernel, pool: &Pool, view: MatrixView<'_>) -> Self {
        let (width, packed) = (kernel.width(), kernel.packed());
        let (outputs, inputs) = (view.out_features, view.in_features);
        Self::new(kernel, pool, (outputs, inputs), 1, |first, panel| {
            let rows = width.min(outputs - first);
            if view.out_stride == 1 {
                let line = |input: usize, line: &mut [f32]| {
                    let at = first + input * view.in_stride;
                    view.elements
                        .slice(at, at + rows)
                        .write_f32(&mut line[..rows]);
                };
                fill_by_input(packed, inputs, panel.chunks_exact_mut(width), line);
                return;
            }
            let mut lines = [0.0; 32 * STRIP];
            let mut values = [0.0; STRIP];
            for begin in (0..inputs).step_by(STRIP) {
                let depth = STRIP.min(inputs - begin);
                for (row, line) in lines.chunks_exact_mut(STRIP).take(rows).enumerate() {
                    if packed == 1 {
                        view.write_inputs(first + row, begin, &mut line[..depth]);
                    } else {
                        view.write_inputs(first + row, begin, &mut values[..depth]);
                        pair_neighbours(&values[..depth], line);
                    }
                }
                let out = &mut panel[begin / packed * width..];
                let size = (rows, depth.div_ceil(packed));
                interleave(|row| &lines[row * STRIP..], size, out, width);
            }
        })
    }

    /// Of a packed matrix, decoded on the way.
    pub(super) fn of_packed(kernel: Kernel, pool: &Pool, matrix: &PackedMatrix<'_>) -> Self {
        let (width, packed) = (kernel.width(), kernel.packed());
        let (outputs, inputs) = (matrix.out_features, matrix.in_features);
        let depth = inputs.div_ceil(packed);
        let panels = if matrix.by_input() { GROUP / width } else { 1 };
        Self::new(kernel, pool, (outputs, inputs), panels, |first, group| {
            if matrix.by_input() {
                let count = GROUP.min(outputs - first);
                let part = matrix.outputs(first, first + count);
                let mut lines = [[0.0; GROUP]; 2];
                for step in 0..depth {
                    for (input, line) in (step * packed..inputs).zip(&mut lines[..packed]) {
                        part.write_input(input, &mut line[..count]);
                    }
                    let [line, second] = &mut lines;
                    if packed == 2 {
                        if 2 * step + 1 == inputs {
                            second.fill(0.0);
                        }
                        pair_lines(line, second);
                    }
                    let panels = group.chunks_exact_mut(depth * width);
                    for (panel, line) in panels.zip(line.chunks_exact(width)) {
                        panel[step * width..(step + 1) * width].copy_from_slice(line);
                    }
                }
                return;
            }
            let rows = width.min(outputs - first);
            let mut lines = vec![0.0; rows * depth];
            let mut values = vec![0.0; inputs];
            for (row, line) in lines.chunks_exact_mut(depth).enumerate() {
                if packed == 1 {
                    matrix.write_output(first + row, line);
                } else {
                    matrix.write_output(first + row, &mut values);
                    pair_neighbours(&values, line);
                }
            }
            interleave(|row| &lines[row * depth..], (rows, depth), group, width);
        })
    }

    /// Lets `pack` fill the panels on all threads, `group` of them at a time, given the first output. An
    /// interrupt leaves some out: the caller checks.
    fn new(
        kernel: Kernel,
        pool: &Pool,
        (outputs, inputs): (usize, usize),
        group: usize,
        pack: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let width = kernel.width();
        let depth = inputs.div_ceil(kernel.packed());
        let length = outputs.div_ceil(width) * width * depth;
        let mut values = pool.take(length + LINE);
        let begin = values.as_ptr().align_offset(4 * LINE).min(LINE);
        values[begin..begin + length]
            .par_chunks_mut((group * width * depth).max(1))
            .enumerate()
            .for_each(|(index, panels)| {
                if !interrupt::requested() {
                    pack(index * group * width, panels);
                }
            });
        Self {
            kernel,
            outputs,
            inputs,
            depth,
            values,
            begin,
        }
    }

    /// Whether a product with a part of the inputs may begin at this one: steps are not divided.
    pub(super) fn may_begin_at(&self, input: usize) -> bool {
        input.is_multiple_of(self.kernel.packed())
    }

    /// `out = x W[:, inputs]^T + bias`: `[rows, inputs] -> [rows, out]`, on all threads. Once an interrupt is
    /// requested, what has not begun is left out: the caller checks.
    pub(super) fn multiply(
        &self,
        x: &[f32],
        inputs: Range<usize>,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        debug_assert!(inputs.end <= self.inputs && self.may_begin_at(inputs.start));
        if out.is_empty() {
            return;
        }
        if inputs.is_empty() {
            for row in out.chunks_exact_mut(self.outputs) {
                match bias {
                    Some(bias) => row.copy_from_slice(bias),
                    None => row.fill(0.0),
                }
            }
            return;
        }
        let rows = out.len() / self.outputs;
        let side = Sides::of(
            rows,
            self.outputs.div_ceil(self.kernel.width()),
            self.kernel.rows(),
            rayon::current_num_threads(),
        );
        let wide = inputs.len();
        let blocks = x.par_chunks(side.rows * wide);
        if side.across == 1 {
            blocks
                .zip(out.par_chunks_mut(side.rows * self.outputs))
                .with_max_len(1)
                .for_each_init(Vec::new, |packed, (x, out)| {
                    let all = 0..self.outputs.div_ceil(self.kernel.width());
                    self.block(x, &inputs, bias, all, out, packed);
                });
            return;
        }
        // Few rows for so many threads: their parts of the columns are put side by side afterwards.
        let panels = |part: usize| side.panels(part);
        let made: Vec<Vec<f32>> = (0..side.down * side.across)
            .into_par_iter()
            .with_max_len(1)
            .map_init(Vec::new, |packed, task| {
                let (block, part) = (task % side.down, task / side.down);
                let first = block * side.rows;
                let count = side.rows.min(rows - first);
                let x = &x[first * wide..(first + count) * wide];
                let columns = self.columns(&panels(part));
                let mut out = vec![0.0; count * columns.len()];
                self.block(x, &inputs, bias, panels(part), &mut out, packed);
                out
            })
            .collect();
        out.par_chunks_mut(self.outputs)
            .enumerate()
            .for_each(|(row, out)| {
                let (block, row) = (row / side.rows, row % side.rows);
                for part in 0..side.across {
                    let columns = self.columns(&panels(part));
                    let made = &made[part * side.down + block];
                    let width = columns.len();
                    out[columns].copy_from_slice(&made[row * width..(row + 1) * width]);
                }
            });
    }

    /// The outputs of some panels.
    fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        let width = self.kernel.width();
        panels.start * width..(panels.end * width).min(self.outputs)
    }

    /// Some rows times some panels, on the calling thread.
    fn block(
        &self,
        x: &[f32],
        inputs: &Range<usize>,
        bias: Option<&[f32]>,
        panels: Range<usize>,
        out: &mut [f32],
        packed: &mut Vec<f32>,
    ) {
        let (kernel, width) = (self.kernel, self.kernel.width());
        let columns = self.columns(&panels);
        let stride = columns.len();
        let rows = out.len() / stride;
        let begun = inputs.start / kernel.packed();
        let all = inputs.len().div_ceil(kernel.packed());
        let parts = all.div_ceil(DEPTH);
        let most = all.div_ceil(parts);
        for first in (0..all).step_by(most) {
            if interrupt::requested() {
                return;
            }
            let depth = most.min(all - first);
            let tiles = self.pack_rows((x, inputs.len()), first..first + depth, rows, packed);
            for panel in panels.clone() {
                let begin = self.begin + (panel * self.depth + begun + first) * width;
                let right = &self.values[begin..begin + depth * width];
                let column = panel * width - columns.start;
                let bias = bias.map(|bias| &bias[columns.start + column..]);
                let begin = match bias {
                    _ if first > 0 => Begin::Output,
                    Some(bias) => Begin::Row(bias),
                    None => Begin::Zero,
                };
                for (tile, row) in (0..rows).step_by(kernel.rows()).enumerate() {
                    let count = kernel.rows().min(rows - row);
                    let left = Left {
                        values: &packed[tile * tiles..(tile + 1) * tiles],
                        step: kernel.rows_read(count),
                    };
                    let out = &mut out[row * stride + column..];
                    if column + width <= stride {
                        kernel.multiply((count, depth), left, right, (out, stride), begin);
                    } else {
                        let edge = stride - column;
                        let target = (out, stride, edge);
                        ragged(kernel, (count, depth), left, right, target, begin);
                    }
                }
            }
        }
    }

    /// Packs some steps of the rows in tiles, and says how far apart these are.
    fn pack_rows(
        &self,
        (x, wide): (&[f32], usize),
        steps: Range<usize>,
        rows: usize,
        packed: &mut Vec<f32>,
    ) -> usize {
        let (most, depth) = (self.kernel.rows(), steps.len());
        let size = most * depth;
        packed.resize(packed.len().max(rows.div_ceil(most) * size), 0.0);
        let mut pairs = [0.0; 12 * DEPTH];
        for (tile, row) in packed.chunks_exact_mut(size).zip((0..rows).step_by(most)) {
            let count = most.min(rows - row);
            let width = self.kernel.rows_read(count);
            let lines = x[row * wide..].chunks(wide).take(count);
            if self.kernel.packed() == 1 {
                let line = |line: usize| &x[(row + line) * wide + steps.start..];
                interleave(line, (count, depth), tile, width);
            } else {
                for (line, pairs) in lines.zip(pairs.chunks_exact_mut(depth)) {
                    let end = wide.min(2 * steps.end);
                    pair_neighbours(&line[2 * steps.start..end], pairs);
                }
                interleave(|row| &pairs[row * depth..], (count, depth), tile, width);
            }
        }
        size
    }
}

/// Fills a panel whose matrix has the outputs of an input side by side.
fn fill_by_input<'p>(
    packed: usize,
    inputs: usize,
    panel: impl Iterator<Item = &'p mut [f32]>,
    write: impl Fn(usize, &mut [f32]),
) {
    let mut second = [0.0; 32];
    for (step, line) in panel.enumerate() {
        line.fill(0.0);
        write(step * packed, line);
        if packed == 2 {
            second.fill(0.0);
            if 2 * step + 1 < inputs {
                write(2 * step + 1, &mut second);
            }
            pair_lines(line, &second);
        }
    }
}

/// A tile of which only the first `edge` columns are there.
fn ragged(
    kernel: Kernel,
    (rows, depth): (usize, usize),
    left: Left<'_>,
    right: &[f32],
    (out, stride, edge): (&mut [f32], usize, usize),
    begin: Begin<'_>,
) {
    let width = kernel.width();
    let mut whole = [0.0; 12 * 32];
    let mut row_of_bias = [0.0; 32];
    for (whole, out) in whole
        .chunks_exact_mut(width)
        .zip(out.chunks(stride))
        .take(rows)
    {
        whole[..edge].copy_from_slice(&out[..edge]);
    }
    let begin = match begin {
        Begin::Row(row) => {
            row_of_bias[..edge].copy_from_slice(&row[..edge]);
            Begin::Row(&row_of_bias)
        }
        other => other,
    };
    kernel.multiply((rows, depth), left, right, (&mut whole, width), begin);
    for (whole, out) in whole
        .chunks_exact(width)
        .zip(out.chunks_mut(stride))
        .take(rows)
    {
        out[..edge].copy_from_slice(&whole[..edge]);
    }
}

/// How a product is divided into tasks.
#[derive(Debug, Clone, Copy)]
struct Sides {
    /// Rows of a task.
    rows: usize,
    /// Tasks that have the same panels.
    down: usize,
    /// Parts of the panels.
    across: usize,
    panels: usize,
}

impl Sides {
    /// Rows only, as long as there are enough of them for all threads.
    fn of(rows: usize, panels: usize, tile: usize, threads: usize) -> Self {
        /// Tasks a thread, so that one that is held up does not hold up the others.
        const TASKS: usize = 3;
        /// Least panels of a task: fewer would spend a noticeable part of it on packing the rows.
        const LEAST: usize = 8;
        let tiles = rows.div_ceil(tile);
        let down = rows.div_ceil(ROWS);
        let rows = tiles.div_ceil(down) * tile;
        let down = (tiles * tile).div_ceil(rows);
        let across = if threads == 1 || down >= TASKS * threads {
            1
        } else {
            (TASKS * threads).div_ceil(down).min(panels.div_ceil(LEAST))
        };
        Self {
            rows,
            down,
            across,
            panels,
        }
    }

    /// The panels of a part, shared out evenly.
    fn panels(&self, part: usize) -> Range<usize> {
        let edge = |part: usize| self.panels * part / self.across;
        edge(part)..edge(part + 1)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{dtype::DType, weights::AssembledMatrix};

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // What bfloat16 holds exactly.
                f32::from_bits(
                    bf16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
                        .to_f32()
                        .to_bits(),
                )
            })
            .collect()
    }

    /// The definition: parts of the inputs one after the other, each a chain of fused products.
    fn truth(
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        (outputs, inputs): (usize, usize),
    ) -> Vec<f32> {
        let most = inputs.div_ceil(inputs.div_ceil(DEPTH));
        let mut out = Vec::new();
        for x in x.chunks_exact(inputs) {
            for output in 0..outputs {
                let weight = &weight[output * inputs..(output + 1) * inputs];
                let parts = x.chunks(most).zip(weight.chunks(most));
                let begin = bias.map(|bias| bias[output]);
                let sum = parts.fold(begin, |before, (x, weight)| {
                    let pairs = x.iter().zip(weight);
                    let sum = pairs.fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
                    Some(before.map_or(sum, |before| before + sum))
                });
                out.push(sum.expect("an input"));
            }
        }
        out
    }

    fn kernels() -> impl Iterator<Item = Kernel> {
        [Kernel::best(), Kernel::without_avx512()]
            .into_iter()
            .flatten()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// To the last bit, whatever the instructions, the threads, the stored type and the layout.
        #[test]
        fn products_are_what_they_are_defined_as(
            rows in 1usize..120, outputs in 1usize..150, inputs in 1usize..1300,
            threads in 1usize..5, biased: bool, transposed: bool,
        ) {
            let (x, weight, bias) = (noise(rows * inputs, 1), noise(outputs * inputs, 2), noise(outputs, 3));
            let bias = biased.then_some(&bias[..]);
            let truth = truth(&x, &weight, bias, (outputs, inputs));
            let stored: Vec<f32> = if transposed {
                (0..weight.len()).map(|at| weight[at % outputs * inputs + at / outputs]).collect()
            } else {
                weight
            };
            let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            for kernel in kernels() {
                for dtype in [DType::Float32, DType::BFloat16] {
                    let matrix = AssembledMatrix::stored_as(dtype, &stored, outputs, inputs);
                    let mut view = matrix.view();
                    if transposed {
                        (view.out_stride, view.in_stride) = (1, outputs);
                    }
                    let mut out = vec![f32::NAN; rows * outputs];
                    threads.install(|| {
                        let panels = Panels::of_view(kernel, &Pool::default(), view);
                        panels.multiply(&x, 0..inputs, bias, &mut out);
                    });
                    prop_assert_eq!(&out, &truth, "{:?} {:?}", kernel, dtype);
                }
            }
        }

        /// Of values that bfloat16 holds, the float32 products up to the order of their sums.
        #[test]
        fn products_of_bfloat16(
            rows in 1usize..60, outputs in 1usize..90, inputs in 1usize..1400, transposed: bool,
        ) {
            let (x, weight) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
            let truth = truth(&x, &weight, None, (outputs, inputs));
            let stored: Vec<f32> = if transposed {
                (0..weight.len()).map(|at| weight[at % outputs * inputs + at / outputs]).collect()
            } else {
                weight
            };
            if let Some(kernel) = Kernel::of_bfloat16() {
                let matrix = AssembledMatrix::from_f32(&stored, outputs, inputs);
                let mut view = matrix.view();
                if transposed {
                    (view.out_stride, view.in_stride) = (1, outputs);
                }
                let mut out = vec![f32::NAN; rows * outputs];
                let panels = Panels::of_view(kernel, &Pool::default(), view);
                panels.multiply(&x, 0..inputs, None, &mut out);
                for (out, truth) in out.iter().zip(&truth) {
                    prop_assert!((out - truth).abs() < 1e-4, "{} {}", out, truth);
                }
            }
        }

        /// A part of the inputs gives what the whole gives where the others are zero, up to the order of sums.
        #[test]
        fn products_of_some_inputs(
            rows in 1usize..60, outputs in 1usize..90, inputs in 1usize..1400, from in 0.0f64..1.0, to in 0.0f64..1.0,
        ) {
            let place = |way: f64| (way * (inputs + 1) as f64) as usize;
            let (first, end) = (place(from.min(to)) / 2 * 2, place(from.max(to)));
            let (weight, x) = (noise(outputs * inputs, 2), noise(rows * (end - first), 1));
            let mut whole = vec![0.0; rows * inputs];
            for row in 0..rows {
                let own = &x[row * (end - first)..(row + 1) * (end - first)];
                whole[row * inputs + first..row * inputs + end].copy_from_slice(own);
            }
            let truth = truth(&whole, &weight, None, (outputs, inputs));
            for kernel in kernels().chain(Kernel::of_bfloat16()) {
                let matrix = AssembledMatrix::from_f32(&weight, outputs, inputs);
                let panels = Panels::of_view(kernel, &Pool::default(), matrix.view());
                let mut out = vec![f32::NAN; rows * outputs];
                panels.multiply(&x, first..end, None, &mut out);
                for (out, truth) in out.iter().zip(&truth) {
                    prop_assert!((out - truth).abs() < 1e-4, "{:?}: {} {}", kernel, out, truth);
                }
            }
        }

        #[test]
        fn tasks_cover_everything(rows in 1usize..5000, panels in 1usize..2000, threads in 1usize..200) {
            let side = Sides::of(rows, panels, 12, threads);
            prop_assert!(side.rows * side.down >= rows && side.rows * (side.down - 1) < rows);
            prop_assert!(side.rows.is_multiple_of(12) && side.rows <= ROWS);
            let mut end = 0;
            for part in 0..side.across {
                let panels = side.panels(part);
                prop_assert!(panels.start == end && !panels.is_empty());
                end = panels.end;
            }
            prop_assert_eq!(end, panels);
        }
    }
}
