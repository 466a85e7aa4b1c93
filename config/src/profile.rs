//! The node's instance id and display name.

/// What the node id of this run is, and what that means for stored tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeIdPlan {
    /// The saved id stays.
    Saved(String),
    /// `--node-id` names another id than the saved one: stored device tokens go (D17).
    Replaced {
        /// The id from now on.
        node_id: String,
        /// The saved id that it replaces.
        previous: String,
    },
    /// `--node-id` names the first id of this node.
    Chosen(String),
    /// There is neither: make one.
    Generate,
}

/// Chooses between `--node-id` and the saved id; both are trimmed, blank counts as not given.
#[must_use]
pub fn plan_node_id(flag: Option<&str>, saved: Option<&str>) -> NodeIdPlan {
    match (given(flag), given(saved)) {
        (None, None) => NodeIdPlan::Generate,
        (None, Some(saved)) => NodeIdPlan::Saved(saved.to_owned()),
        (Some(flag), None) => NodeIdPlan::Chosen(flag.to_owned()),
        (Some(flag), Some(saved)) if flag == saved => NodeIdPlan::Saved(saved.to_owned()),
        (Some(flag), Some(saved)) => NodeIdPlan::Replaced {
            node_id: flag.to_owned(),
            previous: saved.to_owned(),
        },
    }
}

/// Chooses the display name: `--display-name`, else the saved one, else the machine's name.
#[must_use]
pub fn display_name(flag: Option<&str>, saved: Option<&str>) -> String {
    given(flag)
        .or(given(saved))
        .map_or_else(machine_name, str::to_owned)
}

/// The host name without the suffix that zero-configuration networks add.
fn machine_name() -> String {
    let name = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().trim().to_owned())
        .unwrap_or_default();
    let suffix = ".local";
    let bare = match name
        .len()
        .checked_sub(suffix.len())
        .and_then(|at| name.split_at_checked(at))
    {
        Some((bare, end)) if end.eq_ignore_ascii_case(suffix) => bare,
        _ => &name,
    };
    if bare.is_empty() {
        "openclaw-node".to_owned()
    } else {
        bare.to_owned()
    }
}

fn given(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_replaced_only_by_a_different_one() {
        let owned = str::to_owned;
        let cases = [
            (None, None, NodeIdPlan::Generate),
            (Some("  "), None, NodeIdPlan::Generate),
            (None, Some("a"), NodeIdPlan::Saved(owned("a"))),
            (Some(""), Some("a"), NodeIdPlan::Saved(owned("a"))),
            (Some(" a "), Some("a"), NodeIdPlan::Saved(owned("a"))),
            (Some("b"), None, NodeIdPlan::Chosen(owned("b"))),
            (
                Some("b"),
                Some("a"),
                NodeIdPlan::Replaced {
                    node_id: owned("b"),
                    previous: owned("a"),
                },
            ),
        ];
        for (flag, saved, expected) in cases {
            assert_eq!(plan_node_id(flag, saved), expected, "{flag:?} {saved:?}");
        }
    }

    #[test]
    fn the_display_name_is_the_flag_then_the_saved_one_then_the_machine() {
        assert_eq!(display_name(Some(" Kitchen "), Some("Attic")), "Kitchen");
        assert_eq!(display_name(Some(" "), Some("Attic")), "Attic");
        assert_eq!(display_name(None, Some("Attic")), "Attic");
        let machine = display_name(None, Some(" "));
        let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
        assert!(
            !machine.is_empty() && hostname.starts_with(&machine),
            "{machine} {hostname}"
        );
    }
}
