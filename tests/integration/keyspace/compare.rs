//! When two replies are equal, but for what time and chance decide.

use parvis::resp::Value;

/// How a command's replies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Exactly,
    /// In any order.
    Unordered,
    /// Fields and values by turns, in any order of the pairs.
    Pairs,
    /// A time, in so many milliseconds for each unit.
    Time(i64),
    /// Both a value, or both a list of the same length.
    Shape,
    /// A cursor, and a list.
    Walk,
    /// But for the connection's number.
    Greeting,
}

/// A slow machine may take so long between both sides.
const TIME_MS: i64 = 20_000;

fn sorted(elements: &[Value]) -> Vec<String> {
    let mut shown: Vec<String> = elements.iter().map(|element| format!("{element:?}")).collect();
    shown.sort();
    shown
}

fn pairs(value: &Value) -> Option<Vec<String>> {
    let mut shown: Vec<String> = match value {
        Value::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        Value::Array(elements) => {
            elements.chunks(2).map(|pair| format!("{:?}", (pair.first(), pair.get(1)))).collect()
        }
        _ => return None,
    };
    shown.sort();
    Some(shown)
}

fn without_id(value: &Value) -> String {
    let parts: Vec<Value> = match value {
        Value::Map(pairs) => {
            pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect()
        }
        Value::Array(elements) => elements.clone(),
        other => vec![other.clone()],
    };
    let shown = parts.iter().enumerate().filter(|(at, _)| *at != 7);
    shown.map(|(_, part)| format!("{part:?}")).collect()
}

pub fn are_equal(how: Compare, ours: &Value, theirs: &Value) -> bool {
    use Value::{Array, Bulk, Integer, Map, Set};
    if std::mem::discriminant(ours) != std::mem::discriminant(theirs) {
        return false;
    }
    match (how, ours, theirs) {
        (Compare::Unordered, Array(ours), Array(theirs))
        | (Compare::Unordered, Set(ours), Set(theirs)) => sorted(ours) == sorted(theirs),
        (Compare::Pairs, Array(_) | Map(_), _) => pairs(ours) == pairs(theirs),
        (Compare::Time(unit), Integer(ours), Integer(theirs)) if *ours > 0 && *theirs > 0 => {
            (ours - theirs).saturating_mul(unit).abs() < TIME_MS
        }
        (Compare::Shape, Bulk(_), Bulk(_)) => true,
        (Compare::Shape, Array(ours), Array(theirs)) | (Compare::Shape, Set(ours), Set(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| are_equal(how, ours, theirs))
        }
        (Compare::Walk, Array(ours), Array(theirs)) => ours.len() == theirs.len(),
        (Compare::Greeting, Array(_) | Map(_), _) => without_id(ours) == without_id(theirs),
        _ => ours == theirs,
    }
}

#[test]
fn the_comparison_sees_differences() {
    let number = Value::Integer;
    let list =
        |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Integer).collect());
    assert!(!are_equal(Compare::Exactly, &list(&[1, 2]), &list(&[2, 1])));
    assert!(are_equal(Compare::Unordered, &list(&[1, 2]), &list(&[2, 1])));
    assert!(!are_equal(Compare::Unordered, &list(&[1, 2]), &list(&[2, 2])));
    assert!(!are_equal(Compare::Unordered, &list(&[1]), &Value::Set(vec![number(1)])));
    assert!(are_equal(Compare::Pairs, &list(&[1, 2, 3, 4]), &list(&[3, 4, 1, 2])));
    assert!(!are_equal(Compare::Pairs, &list(&[1, 2, 3, 4]), &list(&[2, 1, 3, 4])));
    assert!(are_equal(Compare::Time(1_000), &number(100), &number(101)));
    assert!(!are_equal(Compare::Time(1_000), &number(100), &number(200)));
    assert!(!are_equal(Compare::Time(1_000), &number(100), &number(-1)));
    assert!(!are_equal(Compare::Shape, &list(&[1]), &list(&[])));
}
