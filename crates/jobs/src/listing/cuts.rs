//! Where a long listing can be cut, so that its parts are listed at once.
//!
//! A store lists keys in order and from any key on, but says nothing of those to come. The keys of jobs have a form: ids of jobs
//! and submissions begin with random digits, tasks of a step are numbered. So a place in the middle of what follows can be
//! guessed from the last key that was listed. A wrong guess costs one request, and never a key.

const HEX: &[u8] = b"0123456789abcdef";
const DECIMAL: &[u8] = b"0123456789";

/// How many digits of an id are used.
const DEPTH: usize = 2;

/// Places behind `last` and before `until` in the order of keys, all beginning with `folder`: the best `most` of them.
pub(super) fn cuts(folder: &str, last: &str, until: Option<&str>, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    for cut in by_rank(last) {
        let fits = cut.starts_with(folder) && *cut > *last;
        if fits && until.is_none_or(|until| *cut < *until) && !found.contains(&cut) {
            found.push(cut);
        }
        if found.len() == most {
            break;
        }
    }
    found.sort_unstable();
    found
}

/// All places, those that probably divide most first.
fn by_rank(last: &str) -> impl Iterator<Item = String> {
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    let mut place = 0;
    for part in last.split_inclusive('/') {
        let (before, id) = (&last[..place], part.trim_end_matches('/'));
        place += part.len();
        if part.len() == id.len() {
            // The name of the manifest itself.
            break;
        }
        if let Some(digits) = id.strip_prefix("job-") {
            starts.push((format!("{before}job-"), digits, HEX));
        } else if let Some((of, number)) =
            id.strip_prefix("task-").and_then(|id| id.split_once('-'))
        {
            starts.push((format!("{before}task-{of}-"), number, DECIMAL));
        } else if before.ends_with("/Inputs/") {
            starts.push((before.to_owned(), id, HEX));
        }
        if ["farm-", "queue-", "step-"]
            .iter()
            .any(|word| id.starts_with(word))
            || id == "Inputs"
        {
            // Behind everything in this folder: `0` follows `/`.
            ends.push(format!("{before}{id}0"));
        }
    }
    let mut ranked = Vec::new();
    for depth in 0..DEPTH {
        for (start, digits, alphabet) in &starts {
            let Some((same, next)) = digits.get(..depth).zip(digits.as_bytes().get(depth)) else {
                continue;
            };
            let above = alphabet.iter().filter(move |digit| *digit > next);
            ranked.extend(above.map(|&digit| format!("{start}{same}{}", char::from(digit))));
        }
        ranked.append(&mut ends);
    }
    ranked.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX32: &str = "c123456789abcdef0123456789abcdef";

    fn key() -> String {
        format!(
            "Manifests/farm-{HEX32}/queue-{HEX32}/job-{HEX32}/step-{HEX32}/task-{HEX32}-78/t_s/o"
        )
    }

    #[test]
    fn a_listing_is_cut_at_jobs_then_at_tasks_and_steps_never_outside() {
        let job = format!("Manifests/farm-{HEX32}/queue-{HEX32}/job-");
        let step = format!("{job}{HEX32}/step-{HEX32}");
        let task = format!("{step}/task-{HEX32}-");
        let queue = format!("Manifests/farm-{HEX32}/queue-{HEX32}/");
        let expected: Vec<_> = ["d", "e", "f"].map(|digit| format!("{job}{digit}")).into();
        assert_eq!(cuts(&queue, &key(), None, 3), expected);
        let mut all = ["8", "9"].map(|digit| format!("{task}{digit}")).to_vec();
        all.push(format!("{step}0"));
        all.extend(expected);
        assert_eq!(cuts(&queue, &key(), None, 6), all);
        // In one job, before a bound.
        let folder = format!("{job}{HEX32}/");
        let until = format!("{task}8");
        assert_eq!(
            cuts(&folder, &key(), Some(&until), 9),
            [format!("{task}79")]
        );
    }

    #[test]
    fn inputs_are_cut_at_the_digits_of_submissions() {
        let inputs = format!("Manifests/farm-{HEX32}/queue-{HEX32}/Inputs");
        let key = format!("{inputs}/{HEX32}/x_input");
        let queue = format!("Manifests/farm-{HEX32}/queue-{HEX32}/");
        let found = cuts(&queue, &key, None, 4);
        assert_eq!(
            found[..3],
            ["d", "e", "f"].map(|digit| format!("{inputs}/{digit}"))
        );
        assert_eq!(found[3], format!("{inputs}0"));
    }

    #[test]
    fn any_key_is_cut_without_harm() {
        for key in [
            "",
            "/",
            "a",
            "Manifests/job-",
            "Manifests/task-/x",
            "Manifests/job-\u{e9}\u{e9}/x",
        ] {
            for cut in cuts("", key, None, 100) {
                assert!(*cut > *key);
            }
        }
    }
}
