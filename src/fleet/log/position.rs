//! A place in the log, and as text.

use std::fmt;

use super::token::Token;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of which log: it changes when Redis has lost it.
    pub epoch: Token,
    /// The entry's number, from 1; 0 before the first.
    pub sequence: u64,
    /// The entry's name; `None` before the first.
    pub entry: Option<Token>,
}

impl Position {
    /// Reads what [`Position`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let epoch = Token::parse(words.next()?.as_bytes())?;
        let sequence = words.next()?.parse().ok()?;
        let entry = match words.next()? {
            "-" => None,
            name => Some(Token::parse(name.as_bytes())?),
        };
        words.next().is_none().then_some(Self { epoch, sequence, entry })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} ", self.epoch, self.sequence)?;
        match self.entry {
            Some(name) => write!(formatter, "{name}"),
            None => formatter.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_reads_back_as_it_was_written(
            epoch: [u8; 16], sequence: u64, entry: Option<[u8; 16]>,
        ) {
            let (epoch, entry) = (Token::new(epoch), entry.map(Token::new));
            let position = Position { epoch, sequence, entry };
            prop_assert_eq!(Position::parse(&position.to_string()), Some(position));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = Position::parse(&text);
        }
    }
}
