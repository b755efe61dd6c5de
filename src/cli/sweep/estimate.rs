//! What a sweep is going to download.

use std::collections::BTreeSet;

use super::{super::experiment::Experiment, flags};
use crate::{
    checkpoint,
    error::{Kind, Result},
    hub::{Hub, Settings},
    progress::Progress,
    sweep::{HubModel, Manifest, Task},
};

/// The model of a task, if the hub has it.
pub(super) fn hub_model(task: &Task) -> Option<HubModel> {
    hub_model_of(&flags::experiment(task).ok()?)
}

/// The model of an experiment, if the hub has it.
pub(super) fn hub_model_of(experiment: &Experiment) -> Option<HubModel> {
    let source = &experiment.model().source;
    let repo = source.name().filter(|name| checkpoint::is_on_hub(name))?;
    Some(HubModel {
        repo: repo.to_owned(),
        revision: source.revision.clone(),
    })
}

/// `to download: 12.3 GB in 4 models; unknown: gpt2 (why)`
pub(in super::super) fn downloads(manifest: &Manifest, progress: Progress) -> Result<String> {
    let models: BTreeSet<HubModel> = manifest.tasks.iter().filter_map(hub_model).collect();
    if models.is_empty() {
        return Ok("no model to download".to_owned());
    }
    // Sizes are not worth waiting for.
    let hub = Hub::with(Settings {
        retries: 0,
        ..Settings::from_env(progress)?
    })?;
    let (mut bytes, mut missing, mut unknown) = (0, 0, Vec::new());
    for model in &models {
        match hub.bytes_to_download(&model.repo, model.revision.as_deref()) {
            Ok(0) => {}
            Ok(size) => {
                bytes += size;
                missing += 1;
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => unknown.push((&model.repo, error)),
        }
    }
    let mut text = match missing {
        0 if unknown.is_empty() => "no model to download".to_owned(),
        0 => "to download".to_owned(),
        _ => format!(
            "to download: {:.1} GB in {}",
            bytes as f64 / 1e9,
            super::counted(missing, "model")
        ),
    };
    if let Some((_, error)) = unknown.first() {
        let names: Vec<&str> = unknown.iter().map(|(repo, _)| repo.as_str()).collect();
        text.push_str(&format!(
            ": of unknown size: {} ({error})",
            names.join(", ")
        ));
    }
    Ok(text)
}
