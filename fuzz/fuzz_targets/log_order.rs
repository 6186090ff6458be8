//! What an entry of the fleet's log asks for: whatever stands there, what can be read is written back
//! as something that asks for the same, so that a journal or another node does not make more of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::fleet::log::Order;

const REGEX_MAX_BYTES: usize = 1 << 16;

fuzz_target!(|text: &[u8]| {
    let Ok(order) = Order::decode(text, REGEX_MAX_BYTES) else { return };
    let written = order.encode();
    let again = Order::decode(&written, REGEX_MAX_BYTES).expect("its own writing");
    assert_eq!(again.encode(), written);
    let soft = |order: &Order| match order {
        Order::Purge { soft, .. } => *soft,
        Order::Objects(_) => false,
        Order::Soften => true,
    };
    assert_eq!(soft(&again), soft(&order));
});
