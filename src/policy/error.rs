//! What can be wrong with the rules as they were configured.

/// A rule that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A value that is not allowed.
    #[error("{setting}: {value:?} is not allowed; allowed: {allowed}")]
    Invalid {
        /// The setting's full name.
        setting: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A regex that does not compile.
    #[error("{setting}: {value:?} is no regex: {reason}")]
    Regex {
        /// The setting's full name.
        setting: &'static str,
        /// The pattern.
        value: String,
        /// What the compiler said.
        reason: String,
    },
}
