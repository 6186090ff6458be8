//! The tags of a response.

use std::collections::HashSet;

use bytes::Bytes;

use crate::fields::Fields;

/// The tags over all X-Magento-Tags lines in order, separated by commas, spaces and tabs, without
/// empty and repeated ones. They share the buffer of the head.
pub(super) fn of(fields: &Fields) -> Vec<Bytes> {
    let mut known: HashSet<&[u8]> = HashSet::new();
    let mut tags = Vec::new();
    for line in fields.all("x-magento-tags") {
        for tag in line.split(|byte| b", \t".contains(byte)).filter(|tag| !tag.is_empty()) {
            if known.insert(tag) {
                tags.push(line.slice_ref(tag));
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_over_several_header_lines_separated_by_commas_spaces_tabs_repeated_empty_ones_ignored()
    {
        let fields = Fields::from([
            ("X-Magento-Tags", "store,cms_b,,cat_p_1, cat_p_2\tcat_p_1"),
            ("x-magento-tags", " , "),
            ("X-MAGENTO-TAGS", "store cat_c_3,"),
        ]);
        assert_eq!(of(&fields), ["store", "cms_b", "cat_p_1", "cat_p_2", "cat_c_3"]);
        assert!(of(&Fields::new()).is_empty());
    }
}
