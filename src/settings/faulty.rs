//! What the feature `faulty` switches off, to show that the checker of the fleet's promises notices.

/// A mechanism that keeps one of the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// A fill that began before a purge is not stored.
    Fence,
    /// Entries that are missing in the log are noticed.
    Gap,
    /// So is a tail that was written again.
    Chain,
    /// Cleans of the object cache go into the log.
    Cleans,
    /// They do before the purges that come after them.
    CleanOrder,
    /// What was made of objects that were cleaned since is not kept.
    ObjectsFence,
    /// The clients of the sessions go to the process that takes over.
    Clients,
    /// What clients bring must have been signed here.
    Seals,
}

/// Does `PARVIS_WITHOUT` name it?
pub fn is_off(mechanism: Mechanism) -> bool {
    let word = match mechanism {
        Mechanism::Fence => "fence",
        Mechanism::Gap => "gap",
        Mechanism::Chain => "chain",
        Mechanism::Cleans => "cleans",
        Mechanism::CleanOrder => "clean-order",
        Mechanism::ObjectsFence => "objects-fence",
        Mechanism::Clients => "clients",
        Mechanism::Seals => "seals",
    };
    std::env::var("PARVIS_WITHOUT").is_ok_and(|named| named.split(',').any(|one| one == word))
}
