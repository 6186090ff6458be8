//! Does one condition hold wherever another does? What only asks for that behind it would never match.

/// Is each value that `its` takes one that `own` does? An empty list takes all.
pub(super) fn covers_all<T>(own: &[T], its: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let covered = |its: &T| own.iter().any(|own| covers(own, its));
    own.is_empty() || (!its.is_empty() && its.iter().all(covered))
}

/// The same of parameters besides those of a list: one that is none of many is none of few.
pub(super) fn covers_besides(own: &[String], its: &[String]) -> bool {
    let kept = |own: &String| its.iter().any(|its| covers_name(its, own));
    own.is_empty() || (!its.is_empty() && own.iter().all(kept))
}

/// Is each path that `its` stands for at or below `own`?
pub(super) fn covers_path(own: &str, its: &str) -> bool {
    let mut its = its.split('/').filter(|segment| !segment.is_empty());
    let mut own = own.split('/').filter(|segment| !segment.is_empty());
    own.all(|own| its.next().is_some_and(|its| covers_name(own, its)))
}

/// Is each name that `its` stands for one that `own` does?
pub(super) fn covers_name(own: &str, its: &str) -> bool {
    match own.strip_suffix('*') {
        Some(beginning) => its.trim_end_matches('*').starts_with(beginning),
        None => own == its,
    }
}
