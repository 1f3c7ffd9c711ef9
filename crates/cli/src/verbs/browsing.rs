//! `browse`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attachfs::{
    BrowseMount, BrowseRequest, CancellationToken, Error, Mapping, Owner, PathFormat,
    StorageProfile,
};

use super::naming::{document, is_job_address, named};
use super::serving::Serving;
use super::stores::open_store;
use crate::args::Globals;
use crate::args::browse::Browse;
use crate::exit::Failure;
use crate::paths::absolute;
use crate::places::places_with;

/// Mounts and serves until it is unmounted.
pub(super) async fn browse(globals: &Globals, args: Browse) -> Result<(), Failure> {
    attachfs::Mount::supported()?;
    let serving = Serving::begin(args.daemon, args.log.as_deref())?;
    let mut places = places_with(args.cache_dir.clone().map(absolute).transpose()?)?;
    places.cache = places.cache.with_limits(args.cache_bounds.limits());
    let (address, mount_point) = match &args.paths[..] {
        [mount_point] if is_job_address(mount_point) => {
            return Err(Error::usage("there is no mount point").into());
        }
        [mount_point] => (None, mount_point),
        [address, mount_point] => match address.to_str() {
            Some(text) if is_job_address(address) => (Some(text), mount_point),
            _ => {
                let sentence = format!("{} is no address of jobs", address.display());
                let advice = "one is deadline://FARM/QUEUE/JOB";
                return Err(Error::usage(sentence).advise(advice).into());
            }
        },
        _ => return Err(Error::usage("there is no mount point").into()),
    };
    if address.is_none() && !args.jobs.is_given() && args.jobs_from.is_none() {
        let sentence = "no queue and no job is named";
        let advice = "an address names one, or --farm, --queue and --job, or documents";
        return Err(Error::usage(sentence).advise(advice).into());
    }
    if args.jobs.session_action.is_some() {
        let sentence =
            "a browse shows all session actions, below by-time: leave out --session-action";
        return Err(Error::usage(sentence).into());
    }
    let listed = document(args.jobs_from.as_deref(), attachfs::parse_job_list)?;
    let mappings = mappings(&args)?;
    let named = named(address, &args.jobs, args.store.as_deref())?;
    let scope = attachfs::browsed(&named, listed)?;
    let store = open_store(globals, &named.store).await?;
    let (uid, gid) = attachfs::user_numbers();
    let request = BrowseRequest {
        scope,
        latest_by: args.latest_by.into(),
        refresh: Duration::from_secs(args.refresh),
        mappings,
        inputs: attachfs::given_inputs(&named),
        mount_point: PathBuf::from(mount_point),
        owner: Owner {
            uid,
            gid,
            file_mode: 0o444,
            dir_mode: 0o555,
        },
        allow_other: args.allow_other,
        store,
        reading: args.reading.into(),
        log: serving.log_place(),
        places,
        before_making: Some(crate::daemon::before_making),
    };
    let never = CancellationToken::new();
    let start = Box::pin(BrowseMount::start(request, &never));
    serving.serve(globals, start).await
}

/// Where roots are here: by the rules of a file, or those between two storage profiles.
fn mappings(args: &Browse) -> Result<Vec<Mapping>, Error> {
    let profile = |path: Option<&Path>| document(path, StorageProfile::from_json);
    let source = profile(args.storage_profile_json.as_deref())?;
    let here = profile(args.local_storage_profile_json.as_deref())?;
    let rules = match (source, here) {
        (Some(source), Some(here)) => attachfs::rules_between(&source, &here),
        _ => {
            let rules = document(args.path_mapping_rules.as_deref(), attachfs::parse_rules)?;
            rules.unwrap_or_default()
        }
    };
    attachfs::mappings(&rules, PathFormat::HOST)
}
