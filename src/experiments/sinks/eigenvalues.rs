//! Eigenvalues of a symmetric matrix: Householder's reduction to three diagonals, then QL steps with
//! implicit shifts (Golub and Van Loan, Matrix Computations, chapter 8).
#![forbid(unsafe_code)]

/// Steps for one eigenvalue; more than a few are never needed.
const MOST_STEPS: usize = 60;

/// In no order, from the lower triangle of the `[n, n]` matrix.
pub(super) fn of(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let mut diagonal = vec![0.0; n];
    let mut beside = vec![0.0; n];
    reduce(&mut a, n, &mut diagonal, &mut beside);
    solve(&mut diagonal, &mut beside);
    diagonal
}

/// `beside[i]` is next to `diagonal[i]`, on the side of i - 1.
fn reduce(a: &mut [f64], n: usize, diagonal: &mut [f64], beside: &mut [f64]) {
    for i in (1..n).rev() {
        let scale: f64 = a[i * n..i * n + i].iter().map(|x| x.abs()).sum();
        if i == 1 || scale == 0.0 {
            beside[i] = a[i * n + i - 1];
            continue;
        }
        for x in &mut a[i * n..i * n + i] {
            *x /= scale;
        }
        let mut h: f64 = a[i * n..i * n + i].iter().map(|x| x * x).sum();
        let last = a[i * n + i - 1];
        let g = -h.sqrt().copysign(last);
        beside[i] = scale * g;
        h -= last * g;
        a[i * n + i - 1] = last - g;
        let u = a[i * n..i * n + i].to_vec();
        let mut p = vec![0.0; i];
        for (j, p) in p.iter_mut().enumerate() {
            let row = &a[j * n..=j * n + j];
            let mut sum: f64 = row.iter().zip(&u).map(|(x, u)| x * u).sum();
            sum += (j + 1..i).map(|k| a[k * n + j] * u[k]).sum::<f64>();
            *p = sum / h;
        }
        let k = u.iter().zip(&p).map(|(u, p)| u * p).sum::<f64>() / (2.0 * h);
        for (p, u) in p.iter_mut().zip(&u) {
            *p -= k * u;
        }
        for (j, (own_u, own_p)) in u.iter().zip(&p).enumerate() {
            let row = a[j * n..=j * n + j].iter_mut();
            for (x, (u, p)) in row.zip(u.iter().zip(&p)) {
                *x -= own_u * p + own_p * u;
            }
        }
    }
    for (i, value) in diagonal.iter_mut().enumerate() {
        *value = a[i * n + i];
    }
}

fn solve(d: &mut [f64], e: &mut [f64]) {
    let n = d.len();
    if n == 0 {
        return;
    }
    e.rotate_left(1);
    e[n - 1] = 0.0;
    for l in 0..n {
        for _ in 0..MOST_STEPS {
            let small = |m: &usize| {
                let size = d[*m].abs() + d[*m + 1].abs();
                e[*m].abs() <= f64::EPSILON * size
            };
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_known_matrices() {
        let near = |matrix: &[f64], n: usize, wanted: &[f64]| {
            let mut found = of(matrix.to_vec(), n);
            found.sort_by(f64::total_cmp);
            for (a, b) in found.iter().zip(wanted) {
                assert!((a - b).abs() < 1e-12, "{found:?} instead of {wanted:?}");
            }
        };
        near(&[], 0, &[]);
        near(&[5.0], 1, &[5.0]);
        near(&[2.0, 0.0, 1.0, 2.0], 2, &[1.0, 3.0]);
        // Of the second difference: 2 - 2 cos(k pi / (n + 1)).
        let n = 9;
        let mut second = vec![0.0; n * n];
        for i in 0..n {
            second[i * n + i] = 2.0;
            if i > 0 {
                second[i * n + i - 1] = -1.0;
            }
        }
        let angle = |k: usize| k as f64 * std::f64::consts::PI / (n + 1) as f64;
        let wanted: Vec<f64> = (1..=n).map(|k| 2.0 - 2.0 * angle(k).cos()).collect();
        near(&second, n, &wanted);
        // Trace and squares are those of the matrix, which is full here.
        let full: Vec<f64> = (0..n * n)
            .map(|i| ((i * 7919) % 31) as f64 - 15.0)
            .collect();
        let at = |i: usize, j: usize| full[i.max(j) * n + i.min(j)];
        let trace: f64 = (0..n).map(|i| at(i, i)).sum();
        let squares: f64 = (0..n * n).map(|i| at(i / n, i % n).powi(2)).sum();
        let found = of(full.clone(), n);
        assert!((found.iter().sum::<f64>() - trace).abs() < 1e-9);
        assert!((found.iter().map(|x| x * x).sum::<f64>() - squares).abs() < 1e-8);
        near(&[0.0; 16], 4, &[0.0; 4]);
    }
}
