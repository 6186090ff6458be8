//! Before the first phase: each page once, as guests and as customers see it.

use std::cell::Cell;
use std::rc::Rc;

use fastrand::Rng;
use tokio::time::Instant;

use crate::calls::Call;
use crate::journey::Step;
use crate::visitor::Session;
use crate::world::World;

/// Visitors who do that together.
const WARMERS: usize = 16;

/// Opens all pages of the catalogue. How many requests failed.
pub async fn warm(world: &Rc<World>) -> usize {
    let catalogue = world.plan.catalogue;
    let mut pages = vec![("home", "/".to_owned())];
    pages.extend((1..=catalogue.categories).flat_map(|category| {
        ["", "?p=2"].map(|query| ("category", format!("/category-{category}.html{query}")))
    }));
    pages.extend(
        (1..=catalogue.products)
            .map(|product| ("product", format!("/simple-product-{product}.html"))),
    );
    pages.extend(
        (0..catalogue.words).map(|word| ("search", format!("/catalogsearch/result/?q=word{word}"))),
    );
    let pages = Rc::new(pages);
    let mut failed = 0;
    for is_customer in [false, true] {
        let next = Rc::new(Cell::new(0));
        let mut all = Vec::new();
        for warmer in 0..WARMERS {
            let (world, pages, next) = (Rc::clone(world), Rc::clone(&pages), Rc::clone(&next));
            all.push(tokio::task::spawn_local(async move {
                let random = Rng::with_seed(world.plan.seed ^ (1000 + warmer as u64));
                let mut session = Session::new(&world, random, Instant::now());
                let mut failed = 0;
                if is_customer {
                    failed += usize::from(!session.step(Step::LogIn).await);
                }
                while let Some((kind, target)) = pages.get(next.get()) {
                    next.set(next.get() + 1);
                    let call = Call { kind, target: target.clone(), post: None, script: false };
                    failed += usize::from(!session.ask(&call).await);
                }
                failed
            }));
        }
        for one in all {
            failed += one.await.unwrap_or(1);
        }
    }
    failed
}
