//! The sessions of the shop, on their way between PHP and the Redis that has them.

pub mod embedded;
pub mod gate;
pub mod gateway;
pub mod lock;
pub mod record;
