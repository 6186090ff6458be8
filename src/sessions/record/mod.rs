//! What a session's record says of its visitor, read without PHP and without keeping any of it.
//!
//! The record is the field `data` of the session's hash: PHP's session format, compressed from a size on, as
//! php-redis-session-abstract has it. Everything in it may have been written by anybody who can write to
//! the store, so each size is bounded, and what cannot be read is an error: its visitor is unknown.
//!
//! Of names and numbers only the customer group leaves this module.

mod lzf;
mod serialized;
mod unpack;

pub use serialized::Unreadable;
use serialized::{Head, Scanner};

/// What reading a record may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the record once it is unpacked.
    pub content_max_bytes: usize,
    /// How many times larger than what was packed it may become.
    pub ratio_max: usize,
    /// Arrays and objects inside each other.
    pub depth_max: usize,
    /// Values in all.
    pub values_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { content_max_bytes: 1 << 20, ratio_max: 100, depth_max: 64, values_max: 50_000 }
    }
}

/// What is known of a visitor by their session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// A customer is logged in, in one of the websites at least.
    pub logged_in: bool,
    /// The group of that customer; guests have none in their record.
    pub customer_group: Option<u32>,
    /// There is a quote. A guest gets one with the first thing in the cart; a customer's may be empty, and a
    /// record does not say how much is in it.
    pub quote: bool,
    /// A user of the administration is logged in.
    pub admin: bool,
}

/// Reads the record of a session.
///
/// # Errors
///
/// Where it is damaged, larger than the bounds, or packed in an unknown way.
pub fn read(data: &[u8], bounds: &Bounds) -> Result<Record, Unreadable> {
    let content = unpack::unpack(data, bounds)?;
    let mut scanner = Scanner::new(&content, bounds);
    let mut record = Record::default();
    if serialized::is_one_array(&content) {
        let entries = scanner.array()?;
        for _ in 0..entries {
            let name = scanner.key()?;
            namespace(&mut scanner, name, &mut record)?;
        }
        scanner.close()?;
    } else {
        while !scanner.is_at_end() {
            if let Some(name) = scanner.name()? {
                namespace(&mut scanner, name, &mut record)?;
            }
        }
    }
    if scanner.is_at_end() { Ok(record) } else { Err(Unreadable::Malformed) }
}

/// Magento's session classes that tell something.
#[derive(Clone, Copy)]
enum Class {
    Customer,
    Checkout,
    Admin,
}

impl Class {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"checkout" => Some(Self::Checkout),
            b"admin" => Some(Self::Admin),
            // Where customers belong to websites, the website's code is behind the name.
            b"customer" => Some(Self::Customer),
            _ => name.starts_with(b"customer_").then_some(Self::Customer),
        }
    }

    fn note(self, key: &[u8], value: &Head, record: &mut Record) -> Result<(), Unreadable> {
        match (self, key) {
            (Self::Customer, b"customer_id") => record.logged_in = value.is_id()?,
            (Self::Customer, b"customer_group_id") => {
                let group = value.number()?;
                record.customer_group = group.and_then(|group| u32::try_from(group).ok());
            }
            // One for each website, whose number follows.
            (Self::Checkout, key) if key.starts_with(b"quote_id_") => {
                record.quote |= value.is_id()?;
            }
            (Self::Admin, b"user") => record.admin = matches!(value, Head::Object(_)),
            _ => {}
        }
        Ok(())
    }
}

/// Reads what one of Magento's session classes keeps: an array below a name of its own.
fn namespace(scanner: &mut Scanner, name: &[u8], record: &mut Record) -> Result<(), Unreadable> {
    let Some(class) = Class::of(name) else { return scanner.skip() };
    let head = scanner.head()?;
    let Head::Array(entries) = head else { return scanner.skip_rest(&head) };
    let mut own = Record { logged_in: false, customer_group: None, ..*record };
    for _ in 0..entries {
        let key = scanner.key()?;
        let value = scanner.head()?;
        class.note(key, &value, &mut own)?;
        scanner.skip_rest(&value)?;
    }
    scanner.close()?;
    // Of several websites the one counts where they are logged in.
    let (quote, admin) = (own.quote, own.admin);
    *record = if own.logged_in { own } else { Record { quote, admin, ..*record } };
    Ok(())
}

#[cfg(test)]
mod tests;
