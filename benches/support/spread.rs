//! A median and its quartiles, of turns that different contestants had one after the other.

/// Lower quartile, median, upper quartile, each interpolated between its two neighbours. `NaN` of nothing.
pub(crate) fn quartiles(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarters| {
        let quarters = values.len().saturating_sub(1) * quarters;
        let of = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        let (below, above) = (of(quarters / 4), of(quarters.div_ceil(4)));
        below + (above - below) * f64::from(u8::try_from(quarters % 4).unwrap_or(0)) / 4.0
    })
}
