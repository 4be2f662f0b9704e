//! Names for containers that nobody named: `adjective_noun`.

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "arid", "basal", "brisk", "broad", "calm", "candid", "clear",
    "cobalt", "cool", "coral", "crisp", "deep", "dense", "eager", "early", "even", "fair", "fine",
    "firm", "folded", "frank", "fresh", "gentle", "golden", "grand", "green", "hardy", "hazel",
    "honest", "humble", "ivory", "jolly", "keen", "level", "light", "lively", "lucid", "mellow",
    "mild", "modest", "neat", "nimble", "noble", "ochre", "patient", "plain", "polite", "quick",
    "quiet", "rapid", "ready", "rosy", "round", "silent", "smooth", "solid", "steady", "sunny",
    "tidy", "vivid", "warm",
];

const NOUNS: [&str; 64] = [
    "agate", "alder", "atoll", "basalt", "basin", "bay", "beryl", "bluff", "boulder", "brook",
    "butte", "canyon", "cape", "cave", "chalk", "clay", "cliff", "coast", "cove", "crater",
    "delta", "dune", "fjord", "flint", "garnet", "geyser", "glacier", "gneiss", "gorge", "granite",
    "gravel", "grove", "harbor", "heath", "hill", "inlet", "island", "jade", "karst", "lagoon",
    "lake", "lava", "loam", "marble", "meadow", "mesa", "moraine", "oasis", "onyx", "opal",
    "plateau", "prairie", "pumice", "quartz", "reef", "ridge", "river", "schist", "shale", "slate",
    "spring", "summit", "tundra", "valley",
];

/// A name picked by `number`; from the second `attempt` on with a digit behind it.
pub fn pick(number: u64, attempt: u32) -> String {
    let adjective = ADJECTIVES[(number % 64) as usize];
    let noun = NOUNS[(number / 64 % 64) as usize];
    match attempt {
        0 => format!("{adjective}_{noun}"),
        _ => format!("{adjective}_{noun}{}", number / 4096 % 1000),
    }
}

/// Whether a person may give this name: docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    (2..=128).contains(&name.len())
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn picked_names_are_valid_and_many() {
        let first: HashSet<String> = (0..4096).map(|n| pick(n, 0)).collect();
        assert_eq!(first.len(), 4096);
        assert!(first.iter().all(|n| is_valid(n)));
        assert_ne!(pick(5000, 0), pick(5000, 1));
        assert!(is_valid(&pick(u64::MAX, 3)));
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            "a",
            "-a",
            "../x",
            "a/b",
            "a b",
            ".x",
            &"x".repeat(129),
            "ä1",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert!(is_valid("base-container") && is_valid("A0_.-"));
    }
}
