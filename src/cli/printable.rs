//! Texts of others on the terminal.

/// A text without control characters: whoever can write to Redis, or be asked for, chooses some of what is shown, and
/// none of it is to steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
