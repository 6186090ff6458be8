//! What visitors do, step by step. The plan for `JMeter` (`tests/load/parvis.jmx`) has the same journeys.

use fastrand::Rng;

/// One thing that a visitor does before thinking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The home page.
    Home,
    /// A category, its first or second page.
    Category,
    /// A product.
    Product,
    /// A search for one of the usual words.
    Search,
    /// A category with filters that few others choose.
    Filtered,
    /// A search for what few others search for.
    RareSearch,
    /// Puts the product of the page into the cart.
    Add,
    /// Looks at the cart.
    Cart,
    /// Goes to the checkout.
    Checkout,
    /// Gives an address.
    Address,
    /// Pays.
    Payment,
    /// Logs in.
    LogIn,
    /// Looks at the orders.
    Orders,
}

/// Who visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The usual mix, of whom some buy.
    Buyer,
    /// One who only looks round, off the beaten track.
    Browser,
}

/// Of visitors who buy or may buy.
const LOGS_IN: f64 = 0.08;
const ADDS: f64 = 0.22;
const LOOKS_AT_CART: f64 = 0.6;
const CHECKS_OUT: f64 = 0.5;
/// Pages after the first.
const BROWSED: std::ops::RangeInclusive<usize> = 3..=7;

/// The steps of one session.
pub fn journey(profile: Profile, random: &mut Rng) -> Vec<Step> {
    match profile {
        Profile::Buyer => buyer(random),
        Profile::Browser => browser(random),
    }
}

fn buyer(random: &mut Rng) -> Vec<Step> {
    let mut steps =
        vec![one_of(random, &[(0.35, Step::Home), (0.40, Step::Category), (0.25, Step::Product)])];
    if random.f64() < LOGS_IN {
        steps.extend([Step::LogIn, Step::Orders]);
    }
    let mut has_cart = false;
    for _ in 0..random.usize(BROWSED) {
        let shares = [
            (0.40, Step::Category),
            (0.40, Step::Product),
            (0.15, Step::Search),
            (0.05, Step::Home),
        ];
        let step = one_of(random, &shares);
        steps.push(step);
        if step == Step::Product && random.f64() < ADDS {
            steps.push(Step::Add);
            has_cart = true;
        }
    }
    if has_cart && random.f64() < LOOKS_AT_CART {
        steps.push(Step::Cart);
        if random.f64() < CHECKS_OUT {
            steps.extend([Step::Checkout, Step::Address, Step::Payment]);
        }
    }
    steps
}

fn browser(random: &mut Rng) -> Vec<Step> {
    let mut steps = vec![one_of(random, &[(0.5, Step::Home), (0.5, Step::Category)])];
    for _ in 0..random.usize(BROWSED) {
        steps.push(one_of(
            random,
            &[(0.5, Step::Filtered), (0.3, Step::RareSearch), (0.2, Step::Product)],
        ));
    }
    steps
}

/// One of these by its share; the last takes what is left.
fn one_of(random: &mut Rng, shares: &[(f64, Step)]) -> Step {
    let mut left = random.f64();
    for (share, step) in shares {
        left -= share;
        if left < 0.0 {
            return *step;
        }
    }
    shares.last().map_or(Step::Home, |(_, step)| *step)
}

/// A number below `count`, small ones more often, as a Zipf law of exponent 1 has it.
pub fn popular(random: &mut Rng, count: usize) -> usize {
    // The inverse of the distribution's continuous form.
    let rank = ((count as f64 + 1.0).powf(random.f64())).floor();
    #[expect(clippy::cast_sign_loss, reason = "it is at least 1")]
    let rank = rank as usize;
    rank.clamp(1, count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkout_comes_after_a_cart_and_a_cart_after_a_product() {
        let mut random = Rng::with_seed(1);
        let mut seen = 0;
        for _ in 0..2_000 {
            let steps = journey(Profile::Buyer, &mut random);
            for (at, step) in steps.iter().enumerate() {
                match step {
                    Step::Add => assert_eq!(steps[at - 1], Step::Product),
                    Step::Cart => assert!(steps[..at].contains(&Step::Add)),
                    Step::Checkout => assert_eq!(steps[at - 1], Step::Cart),
                    Step::Payment => seen += 1,
                    _ => {}
                }
            }
        }
        assert!(seen > 100, "some buy: {seen}");
    }

    #[test]
    fn those_who_look_round_buy_nothing() {
        let mut random = Rng::with_seed(2);
        for _ in 0..500 {
            let steps = journey(Profile::Browser, &mut random);
            assert!(!steps.contains(&Step::Add) && !steps.contains(&Step::LogIn), "{steps:?}");
        }
    }

    #[test]
    fn popular_pages_are_asked_for_more_often_and_none_is_beyond_the_last() {
        let mut random = Rng::with_seed(3);
        let mut counts = vec![0_u32; 100];
        for _ in 0..50_000 {
            counts[popular(&mut random, 100)] += 1;
        }
        assert!(counts[0] > 3 * counts[9], "{counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_eq!(popular(&mut random, 1), 0);
    }
}
