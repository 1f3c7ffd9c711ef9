//! What is mounted, and how.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use attachfs_browse::{JobInput, Scope};
use attachfs_jobs::{JobAddress, JobsAddress, LatestBy};
use attachfs_paths::{Mapping, MappingRule, PathFormat};

use crate::error::Error;
use crate::jobs::NamedJobs;
use crate::logs::LogPlace;
use crate::mount::Owner;
use crate::places::Places;
use crate::reading::ReadOptions;
use crate::store::OpenStore;

/// How to mount outputs of jobs.
#[derive(Debug)]
pub struct BrowseRequest {
    /// Which jobs ([`browsed`]).
    pub scope: Scope,
    /// Which run of a task is the latest.
    pub latest_by: LatestBy,
    /// How long new outputs may stay unseen, beside the time that a listing takes.
    pub refresh: Duration,
    /// Where roots are on this machine: a root that is mapped has the name of its place here.
    pub mappings: Vec<Mapping>,
    /// What jobs were given ([`given_inputs`]); a job that is not here has no `inputs`.
    pub inputs: HashMap<JobAddress, Vec<JobInput>>,
    /// Where: an empty directory.
    pub mount_point: PathBuf,
    /// Owner and modes. Nobody can write, whatever the modes say.
    pub owner: Owner,
    /// Whether other users may use it.
    pub allow_other: bool,
    /// The store.
    pub store: OpenStore,
    /// How it is read. Nothing is fetched ahead of reads, whatever this says: a file manager reads the beginning of each file.
    pub reading: ReadOptions,
    /// Where the caller lets the log go.
    pub log: LogPlace,
    /// This machine.
    pub places: Places,
    /// Called when nothing is made yet. Until then the process may simply end.
    pub before_making: Option<fn()>,
}

/// Which jobs to browse: those of a list, or the job or the queue that is named. Fails if a list has anything but jobs, or two parts
/// of one job, whose folders would have the same name.
pub fn browsed(named: &NamedJobs, listed: Option<Vec<JobsAddress>>) -> Result<Scope, Error> {
    let Some(listed) = listed else {
        return match named.address {
            JobsAddress::Job(job) => Ok(Scope::Job(job)),
            JobsAddress::Queue(farm, queue) => Ok(Scope::Queue(farm, queue)),
            JobsAddress::All | JobsAddress::Farm(_) => {
                let sentence = "no queue and no job is named";
                let advice = "one is named by an address, by --farm, --queue and --job, or in a list (--jobs-from)";
                Err(Error::usage(sentence).advise(advice))
            }
        };
    };
    let mut jobs = Vec::new();
    let mut known = HashMap::new();
    for address in listed {
        let JobsAddress::Job(job) = address else {
            return Err(Error::usage(format!("{address} in the list names no job")));
        };
        match known.entry(job.job) {
            Entry::Vacant(place) => {
                place.insert(job);
                jobs.push(job);
            }
            Entry::Occupied(other) if *other.get() == job => {}
            Entry::Occupied(other) => {
                let other = other.get();
                let sentence =
                    format!("the list has {other} and {job}, which would have one folder");
                return Err(Error::usage(sentence));
            }
        }
    }
    if jobs.is_empty() {
        return Err(Error::usage("the list names no job"));
    }
    Ok(Scope::Jobs(jobs))
}

/// What the named job was given, as its document says: nothing if there is no document, or a queue is named.
pub fn given_inputs(named: &NamedJobs) -> HashMap<JobAddress, Vec<JobInput>> {
    let JobsAddress::Job(address) = named.address else {
        return HashMap::new();
    };
    let document = named.documents.job.as_ref();
    let attachments = document.and_then(|job| job.attachments.as_ref());
    let roots = attachments.into_iter().flat_map(|given| &given.roots);
    let inputs: Vec<JobInput> = roots
        .filter_map(|root| {
            Some(JobInput {
                key: root.inputs.clone()?,
                root: root.root.clone(),
                location: root.location.clone(),
            })
        })
        .collect();
    if inputs.is_empty() {
        return HashMap::new();
    }
    HashMap::from([(address, inputs)])
}

/// Where roots are on machines that write paths so. Rules for paths of several formats are kept apart: of a root it is known how it is written.
pub fn mappings(rules: &[MappingRule], here: PathFormat) -> Result<Vec<Mapping>, Error> {
    let mut of_formats: BTreeMap<PathFormat, Vec<MappingRule>> = BTreeMap::new();
    for rule in rules {
        let of_format = of_formats.entry(rule.source_format).or_default();
        of_format.push(rule.clone());
    }
    let made = of_formats.values().map(|rules| Mapping::new(rules, here));
    let made = made.collect::<Result<_, _>>();
    made.map_err(|error| Error::usage("cannot use the path mapping rules").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobDocuments;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn named(address: &str) -> NamedJobs {
        NamedJobs {
            store: "store".to_owned(),
            address: address.parse().unwrap(),
            action: None,
            documents: JobDocuments::default(),
        }
    }

    #[test]
    fn a_job_a_queue_or_a_list_of_jobs_can_be_browsed_and_nothing_else() {
        let queue = format!("deadline://farm-{HEX}/queue-{HEX}");
        let job = format!("{queue}/job-{HEX}");
        let step = format!("{job}/step-{HEX}");
        let scope = |named: &str| browsed(&super::tests::named(named), None);
        assert_eq!(scope(&queue).unwrap().to_string(), queue);
        assert_eq!(scope(&step).unwrap().to_string(), step);
        let error = scope(&format!("deadline://farm-{HEX}")).unwrap_err();
        assert!(error.to_string().ends_with("no job is named"), "{error}");
        let listed = |listed: &[&str]| {
            let listed = listed.iter().map(|address| address.parse().unwrap());
            browsed(&super::tests::named(&queue), Some(listed.collect()))
        };
        assert!(matches!(listed(&[&job, &job]).unwrap(), Scope::Jobs(jobs) if jobs.len() == 1));
        for (bad, said) in [
            (vec![], "names no job"),
            (vec![&*queue], "names no job"),
            (vec![&*job, &*step], "would have one folder"),
        ] {
            let error = listed(&bad).unwrap_err();
            assert!(error.to_string().ends_with(said), "{error}");
        }
    }
}
