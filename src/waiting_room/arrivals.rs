//! In which order visitors of a test came in.

use std::collections::BTreeMap;

/// How far from the own place visitors came in, as a share of all who did, the farthest in a thousand left aside.
/// `entered`: visitors by the order of their arrival, in the order in which they came in.
pub fn out_of_order(entered: &[usize]) -> f64 {
    let mut sorted = entered.to_vec();
    sorted.sort_unstable();
    let places: BTreeMap<usize, usize> =
        sorted.into_iter().enumerate().map(|(place, visitor)| (visitor, place)).collect();
    let far = entered.iter().enumerate();
    let mut far: Vec<usize> = far.map(|(at, visitor)| places[visitor].abs_diff(at)).collect();
    far.sort_unstable();
    let worst = far.get(far.len() * 999 / 1_000).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = worst as f64 / entered.len().max(1) as f64;
    share
}
