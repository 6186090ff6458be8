//! What commands say of cleans: which keys, tags and databases a client takes away, and which sets of tags it
//! looks at before.

use super::coherence::{Coherence, with};
use super::command::Call;
use super::looks::Look;
use super::own::Own;
use super::view::View;

impl Call<'_> {
    fn cleans(&mut self, act: impl FnOnce(&mut Coherence, &mut View<'_>, &mut Own)) {
        let own = &mut self.client.own;
        with(&mut self.view, |coherence, view| act(coherence, view, own));
    }

    /// The client deletes keys, before it does. What is left of what their tags name, for
    /// [`Call::remove_left`]. With a list of all values the cache goes: other nodes have values that this one
    /// does not find.
    pub fn deletes(&mut self, keys: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut left = Vec::new();
        self.cleans(|coherence, view, own| {
            left = coherence.deletes(view, own, keys);
            if keys.iter().any(|key| coherence.rules.is_index(key)) {
                coherence.flushes(own, &[view.at], false);
            }
        });
        left
    }

    /// Removes what came between the client's look at a tag and its clean.
    pub fn remove_left(&mut self, left: &[Vec<u8>]) {
        if !left.is_empty() {
            self.cleans(|coherence, view, _| coherence.remove_all(view, left));
        }
    }

    /// The client empties databases, each for itself.
    pub fn flushes(&mut self, databases: &[usize]) {
        self.cleans(|coherence, _, own| coherence.flushes(own, databases, false));
    }

    /// The client empties all databases.
    pub fn flushes_everything(&mut self) {
        let all: Vec<usize> = (0..self.view.keyspace.databases.len()).collect();
        self.cleans(|coherence, _, own| coherence.flushes(own, &all, true));
    }

    /// The client cleans tags as a whole. Where the settings do not lead from their sets to what they name,
    /// other nodes cannot know what has them: they clean the database.
    pub fn cleans_tags(&mut self, sets: &[&[u8]]) {
        self.cleans_by_script(sets, Coherence::cleans_tags);
    }

    /// The same, of what has another tag besides.
    pub fn cleans_in_part(&mut self, sets: &[&[u8]]) {
        self.cleans_by_script(sets, Coherence::cleans_in_part);
    }

    fn cleans_by_script(
        &mut self,
        sets: &[&[u8]],
        clean: fn(&mut Coherence, &mut View<'_>, &mut Own, &[&[u8]]),
    ) {
        if sets.is_empty() {
            return;
        }
        self.cleans(|coherence, view, own| {
            if sets.iter().all(|set| coherence.rules.is_tag(set)) {
                clean(coherence, view, own, sets);
            } else {
                coherence.unknown_set.get_or_insert_with(|| sets[0].into());
                coherence.flushes(own, &[view.at], false);
            }
        });
    }

    /// Was this key's value, which the client deletes, not kept, and what stands there is another's?
    pub fn spares(&self, key: &[u8]) -> bool {
        let (own, at) = (&self.client.own, self.view.at);
        let fence = self.view.keyspace.coherence.as_deref().map(|coherence| &coherence.fence);
        fence.is_some_and(|fence| {
            let name = fence.name(at, key);
            own.misses(name) && own.is_unkept(name)
        })
    }

    /// Was what the client wrote under a key not kept?
    pub fn is_unkept(&self, key: &[u8]) -> bool {
        let (own, at) = (&self.client.own, self.view.at);
        let fence = self.view.keyspace.coherence.as_deref().map(|coherence| &coherence.fence);
        own.has_unkept() && fence.is_some_and(|fence| own.is_unkept(fence.name(at, key)))
    }

    /// Is the value that a member of a tag's set names another's, where the client's own was not kept?
    pub fn spares_member(&self, set: &[u8], member: &[u8]) -> bool {
        let Some(coherence) = self.view.keyspace.coherence.as_deref() else { return false };
        let mut pairs = coherence.rules.tag_sets.iter();
        self.client.own.has_unkept()
            && pairs.any(|pair| {
                pair.of_set(set).is_some_and(|tag| {
                    let name = coherence.fence.name(self.view.at, &pair.value(&tag, member));
                    self.client.own.is_unkept(name)
                })
            })
    }

    /// The client looks at these sets; `finds`: something is in what it asks for.
    pub fn looks(&mut self, sets: &[&[u8]], how: Look, finds: bool) {
        let Some(coherence) = &self.view.keyspace.coherence else { return };
        let is_list = |set: &&[u8]| coherence.rules.is_list(set);
        let lists = how == Look::Members && sets.iter().any(is_list);
        if sets.iter().all(|set| coherence.rules.is_tag(set)) {
            // Of a tag that names nothing any more, who collects garbage cleans nothing.
            if finds || how != Look::Members || !self.client.own.looks.is_collecting() {
                self.cleans(|coherence, view, own| coherence.looks(view, own, sets, how, finds));
            }
        } else {
            self.client.own.looks.ends_row();
            if lists {
                self.client.own.looks.lists();
            }
        }
    }

    /// A tag's set moves to where no clean finds it: what it names is about to be deleted.
    pub fn moves(&mut self, set: &[u8]) {
        self.cleans(|coherence, view, own| {
            if coherence.rules.is_tag(set) && view.contains(set) {
                coherence.cleans_tags(view, own, &[set]);
            }
        });
    }

    /// The client begins anew.
    pub fn begins(&mut self) {
        let last = self.view.keyspace.last_clean();
        self.client.own.begin(last);
    }
}
