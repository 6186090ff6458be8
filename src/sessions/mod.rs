//! The sessions of the shop, on their way between PHP and the Redis that has them.

mod carried;
pub mod embedded;
pub mod figures;
pub mod gate;
pub mod gateway;
pub mod lock;
pub mod record;
pub mod throwaway;
pub mod visitors;

pub use carried::Carried;
