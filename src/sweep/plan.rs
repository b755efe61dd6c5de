//! The plan of a sweep, in TOML: models, experiments, and settings that multiply.
//!
//! ```toml
//! [defaults]
//! context_length = 1024
//!
//! [[model]]
//! pretrained = "EleutherAI/pythia-160m"
//!
//! [[experiment]]
//! name = "existence-validation"
//! add_bos_token = [true, false]
//! ```
//!
//! A setting is a long flag of the experiment's command with `_` for `-`. A list multiplies the tasks; a
//! list in a list is one value, of a flag that is given several times. An experiment's setting counts
//! before a model's, and a model's before the defaults.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use toml::Table;

use super::{manifest::Manifest, paths::Inside, shown::Shown, task::Task};
use crate::{
    error::{Error, Result},
    files, interrupt,
    nearest::nearest,
};

/// What a command understands.
#[derive(Debug, Clone)]
pub struct Flags {
    /// Its name.
    pub command: String,
    /// Its long flags that a plan may set.
    pub flags: Vec<Flag>,
}

/// A long flag.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its name with underscores.
    pub key: String,
    /// How a value becomes arguments.
    pub kind: Kind,
}

/// How a flag takes its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there or not.
    Switch,
    /// One value.
    Value,
    /// It may be given several times.
    Repeated,
}

/// A plan that has been read.
#[derive(Debug)]
pub struct Plan {
    /// Where it was read from, for messages.
    name: String,
    /// The folder that its paths are relative to.
    folder: PathBuf,
    defaults: Table,
    models: Vec<Model>,
    experiments: Vec<Experiment>,
}

#[derive(Debug)]
struct Model {
    pretrained: String,
    revisions: Vec<String>,
    steps: Vec<u64>,
    label: Option<String>,
    settings: Table,
}

#[derive(Debug)]
struct Experiment {
    name: String,
    settings: Table,
}

/// More than anybody means, and few enough for a manifest.
const MOST_TASKS: usize = 100_000;

/// The setting that makes a model another one.
const ADAPTER: &str = "adapter";

const MODEL_KEYS: [&str; 4] = ["pretrained", "revisions", "steps", "label"];

/// Flags of every command that a plan says elsewhere, or not at all.
pub const NOT_SETTINGS: [&str; 8] = [
    "pretrained",
    "model",
    "revision",
    "label",
    "save_dir",
    "quiet",
    "json",
    "print_folder",
];

/// Settings of a task with their values chosen, in the order of the command's flags.
type Chosen<'a> = Vec<(&'a Flag, toml::Value)>;

impl Plan {
    /// Reads a plan.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path, files::DESCRIPTION).map_err(|error| {
            Error::usage(path.display(), error)
                .remedy("name a plan in TOML, see docs/sweeps.md")
                .meant_path(path)
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = std::path::absolute(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })
        .map_err(|error| Error::usage(path.display(), error))?;
        Self::parse(&path.display().to_string(), &text, folder)
    }

    /// Parses a plan whose paths are relative to `folder`.
    pub fn parse(name: &str, text: &str, folder: PathBuf) -> Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Error::usage(name, format!("not TOML: {error}")).remedy("see docs/sweeps.md")
        })?;
        let reader = Reader { name };
        reader.known(&table, "the plan", &["defaults", "model", "experiment"])?;
        let defaults = match table.get("defaults") {
            None => Table::new(),
            Some(toml::Value::Table(defaults)) => defaults.clone(),
            Some(_) => return Err(reader.wrong("defaults", "it is not a table: write [defaults]")),
        };
        let models = reader.tables(&table, "model")?;
        let experiments = reader.tables(&table, "experiment")?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            defaults,
            models: models
                .into_iter()
                .enumerate()
                .map(|(index, table)| reader.model(index, table))
                .collect::<Result<_>>()?,
            experiments: experiments
                .into_iter()
                .enumerate()
                .map(|(index, table)| reader.experiment(index, table))
                .collect::<Result<_>>()?,
        })
    }

    /// The tasks, model by model. `commands`: what may be run; `check` parses a task's arguments.
    pub fn manifest(
        &self,
        commands: &[Flags],
        check: impl Fn(&Task) -> Result<()>,
    ) -> Result<Manifest> {
        let flags = self
            .experiments
            .iter()
            .enumerate()
            .map(|(index, experiment)| self.flags(index, experiment, commands))
            .collect::<Result<Vec<_>>>()?;
        self.refuse_unused(&flags)?;
        self.refuse_equal_labels()?;
        let mut tasks: Vec<Task> = Vec::new();
        let mut ids = HashMap::new();
        for model in &self.models {
            for (revision, step) in model.states() {
                for (index, (experiment, flags)) in self.experiments.iter().zip(&flags).enumerate()
                {
                    let subject = place("experiment", index, &experiment.name);
                    for chosen in self.choices(model, experiment, flags)? {
                        interrupt::check()?;
                        let task = self.task(model, revision, step, flags, &chosen)?;
                        check(&task)
                            .map_err(|error| error.within(format!("{}: {subject}", self.name)))?;
                        if tasks.len() == MOST_TASKS {
                            return Err(self.too_many());
                        }
                        match ids.entry(task.id.clone()) {
                            Entry::Vacant(place) => {
                                place.insert(tasks.len());
                                tasks.push(task);
                            }
                            // Two experiments may overlap.
                            Entry::Occupied(known) => {
                                self.refuse_other_names(&tasks[*known.get()], &task)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(Manifest { tasks })
    }

    /// The flags of an experiment, whose own settings they must know.
    fn flags<'a>(
        &self,
        index: usize,
        experiment: &Experiment,
        commands: &'a [Flags],
    ) -> Result<&'a Flags> {
        let name = experiment.name.replace('_', "-");
        let found = commands.iter().find(|flags| flags.command == name);
        let reader = Reader { name: &self.name };
        let Some(flags) = found else {
            let names = commands.iter().map(|flags| flags.command.as_str());
            return Err(reader.unknown(
                &format!("[[experiment]] {}", index + 1),
                "experiment",
                &experiment.name,
                names,
            ));
        };
        let keys: Vec<&str> = flags.flags.iter().map(|flag| flag.key.as_str()).collect();
        let subject = place("experiment", index, &experiment.name);
        reader.known(&experiment.settings, &subject, &keys)?;
        Ok(flags)
    }

    fn too_many(&self) -> Error {
        Error::usage(
            &self.name,
            format!("its lists multiply to more than {MOST_TASKS} tasks"),
        )
        .remedy("make shorter lists, or several plans")
    }

    /// Refuses a run that is to be known by two names: tables would have only one of them.
    fn refuse_other_names(&self, known: &Task, task: &Task) -> Result<()> {
        if (&known.model, &known.revision, known.step) == (&task.model, &task.revision, task.step) {
            return Ok(());
        }
        let name = |task: &Task| {
            let step = task
                .step
                .map_or_else(String::new, |step| format!(" (step {step})"));
            format!("{}{step}", task.title())
        };
        Err(Error::usage(
            &self.name,
            format!("{} and {} are the same run", name(known), name(task)),
        )
        .remedy("name each model and revision once"))
    }

    /// Refuses two models with one label: tables could not tell them apart.
    fn refuse_equal_labels(&self) -> Result<()> {
        for (index, model) in self.models.iter().enumerate() {
            let states = model.states();
            let alike = self.models[..index].iter().find(|other| {
                let what = |model: &Model| model.settings.get(ADAPTER).cloned();
                let differ = other.pretrained != model.pretrained || what(other) != what(model);
                let mut others = other.states().into_iter();
                let both = others.any(|state| states.contains(&state));
                model.label.is_some() && other.label == model.label && differ && both
            });
            if let (Some(_), Some(label)) = (alike, &model.label) {
                return Err(Error::usage(
                    format!("{}: label `{label}`", self.name),
                    "it names two models",
                )
                .remedy("give each [[model]] a label of its own"));
            }
        }
        Ok(())
    }

    /// A model with all adapters that its tasks have in turn.
    fn shown<'a>(&self, model: &'a Model) -> Shown<'a> {
        let values = self.experiments.iter().filter_map(|experiment| {
            let tables = [&experiment.settings, &model.settings, &self.defaults];
            tables.iter().find_map(|table| table.get(ADAPTER))
        });
        let values = values.flat_map(|value| match value {
            toml::Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        });
        let adapters = values.filter_map(|value| value.as_str().map(str::to_owned));
        Shown {
            pretrained: &model.pretrained,
            label: model.label.as_deref(),
            adapters: adapters.collect(),
        }
    }

    /// Settings of models and defaults that no experiment of the plan has.
    fn refuse_unused(&self, flags: &[&Flags]) -> Result<()> {
        let mut keys: Vec<&str> = flags
            .iter()
            .flat_map(|flags| flags.flags.iter().map(|flag| flag.key.as_str()))
            .collect();
        let reader = Reader { name: &self.name };
        reader.known(&self.defaults, "[defaults]", &keys)?;
        keys.extend(MODEL_KEYS);
        for (index, model) in self.models.iter().enumerate() {
            let subject = place("model", index, &model.pretrained);
            reader.known(&model.settings, &subject, &keys)?;
        }
        Ok(())
    }

    /// Every combination of the values of the settings that the command has.
    fn choices<'a>(
        &self,
        model: &Model,
        experiment: &Experiment,
        flags: &'a Flags,
    ) -> Result<Vec<Chosen<'a>>> {
        let mut all: Vec<Chosen<'a>> = vec![Vec::new()];
        for flag in &flags.flags {
            let tables = [&experiment.settings, &model.settings, &self.defaults];
            let Some(value) = tables.iter().find_map(|table| table.get(&flag.key)) else {
                continue;
            };
            let values = match value {
                toml::Value::Array(values) if values.is_empty() => {
                    let reader = Reader { name: &self.name };
                    return Err(
                        reader.wrong(&flag.key, "the list is empty, so there would be no task")
                    );
                }
                toml::Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            if all.len().saturating_mul(values.len()) > MOST_TASKS {
                return Err(self.too_many());
            }
            all = all
                .into_iter()
                .flat_map(|chosen| {
                    values.iter().map(move |value| {
                        let mut chosen = chosen.clone();
                        chosen.push((flag, value.clone()));
                        chosen
                    })
                })
                .collect();
        }
        Ok(all)
    }

    fn task(
        &self,
        model: &Model,
        revision: Option<&str>,
        step: Option<u64>,
        flags: &Flags,
        chosen: &Chosen<'_>,
    ) -> Result<Task> {
        let inside = Inside {
            plan: &self.name,
            folder: &self.folder,
        };
        let (pretrained, hub_revision) = inside.checkpoint(&model.pretrained, revision)?;
        let mut arguments = vec!["--pretrained".to_owned(), pretrained];
        if let Some(revision) = hub_revision {
            arguments.extend(["--revision".to_owned(), revision.to_owned()]);
        }
        let mut settings = Map::new();
        for (flag, value) in chosen {
            settings.insert(flag.key.clone(), json_value(value));
            let name = format!("--{}", flag.key.replace('_', "-"));
            let values = match (flag.kind, value) {
                (Kind::Switch, toml::Value::Boolean(true)) => {
                    arguments.push(name);
                    continue;
                }
                (Kind::Switch, toml::Value::Boolean(false)) => continue,
                (Kind::Switch, _) => {
                    let reader = Reader { name: &self.name };
                    return Err(reader.wrong(&flag.key, "it is true or false"));
                }
                (Kind::Repeated, toml::Value::Array(values)) if !values.is_empty() => {
                    values.as_slice()
                }
                (_, value) => std::slice::from_ref(value),
            };
            for value in values {
                let text = inside.argument(&flag.key, &self.text(&flag.key, value)?)?;
                // One word, so that a value may begin with a hyphen.
                arguments.push(format!("{name}={text}"));
            }
        }
        let id = Task::id_of(&flags.command, &arguments);
        let shown = self.shown(model);
        let adapter = settings.get(ADAPTER).and_then(Value::as_str);
        if let Some(label) = shown.label(revision, adapter) {
            arguments.push(format!("--label={label}"));
        }
        Ok(Task {
            id,
            command: flags.command.clone(),
            arguments,
            model: shown.model(adapter),
            revision: revision.map(str::to_owned),
            step,
            settings,
        })
    }

    fn text(&self, key: &str, value: &toml::Value) -> Result<String> {
        match value {
            toml::Value::String(text) => Ok(text.clone()),
            toml::Value::Integer(number) => Ok(number.to_string()),
            toml::Value::Float(number) => Ok(number.to_string()),
            toml::Value::Boolean(truth) => Ok(truth.to_string()),
            _ => {
                let reader = Reader { name: &self.name };
                Err(reader.wrong(
                    key,
                    "it is a text, a number, true or false, or a list of those",
                ))
            }
        }
    }
}

impl Model {
    /// Its revisions with their steps; one without a name if none are listed.
    fn states(&self) -> Vec<(Option<&str>, Option<u64>)> {
        if self.revisions.is_empty() {
            return vec![(None, self.steps.first().copied())];
        }
        let states = self.revisions.iter().enumerate();
        states
            .map(|(index, revision)| {
                let step = self.steps.get(index).copied();
                (Some(revision.as_str()), step)
            })
            .collect()
    }
}

/// Reads tables of the plan `name`.
struct Reader<'a> {
    name: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, why: &str) -> Error {
        Error::usage(format!("{}: `{key}`", self.name), why).remedy("see docs/sweeps.md")
    }

    /// A name that is not among those known.
    fn unknown<'k>(
        &self,
        subject: &str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Error {
        let known: Vec<&str> = known.collect();
        let subject = format!("{}: {subject}", self.name);
        let error = Error::usage(subject, format!("no {what} `{name}`"));
        // Of all settings, those that were not meant would hide the one that was.
        match nearest(name, known.iter().copied()) {
            Some(_) => error.meant(name, known),
            None => error.remedy(format!("choose one of {}", known.join(", "))),
        }
    }

    /// Refuses keys that are not known.
    fn known(&self, table: &Table, subject: &str, keys: &[&str]) -> Result<()> {
        match table.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) if NOT_SETTINGS.contains(&key.as_str()) && !keys.contains(&"label") => {
                Err(Error::usage(
                    format!("{}: {subject}", self.name),
                    format!("`{key}` is no setting of an experiment"),
                )
                .remedy("models are named in [[model]]; where results go is the sweep's to choose"))
            }
            Some(key) => {
                let mut keys = keys.to_vec();
                keys.sort_unstable();
                keys.dedup();
                Err(self.unknown(subject, "setting", key, keys.into_iter()))
            }
        }
    }

    /// The tables `[[key]]`, of which there must be one.
    fn tables(&self, table: &Table, key: &str) -> Result<Vec<Table>> {
        let found = table.get(key).and_then(toml::Value::as_array);
        let tables: Vec<Table> = found
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_table().cloned())
            .collect();
        if tables.is_empty() || found.is_none_or(|all| all.len() != tables.len()) {
            return Err(Error::usage(self.name, format!("it has no [[{key}]]"))
                .remedy(format!("add at least one [[{key}]], see docs/sweeps.md")));
        }
        Ok(tables)
    }

    fn model(&self, index: usize, mut table: Table) -> Result<Model> {
        let subject = format!("{}: [[model]] {}", self.name, index + 1);
        let wrong = |why: &str| Error::usage(&subject, why).remedy("see docs/sweeps.md");
        let Some(toml::Value::String(pretrained)) = table.remove("pretrained") else {
            // A misspelled key is the likelier reason.
            if let Some(near) = table
                .keys()
                .find(|key| strsim::jaro_winkler(key, "pretrained") > 0.8)
            {
                let subject = format!("[[model]] {}", index + 1);
                return Err(self.unknown(&subject, "setting", near, MODEL_KEYS.into_iter()));
            }
            return Err(wrong("it needs `pretrained`, a hub id or a folder"));
        };
        if pretrained.trim().is_empty() {
            return Err(wrong("`pretrained` is empty; it is a hub id or a folder"));
        }
        let revisions = match table.remove("revisions") {
            None => Vec::new(),
            Some(list) => strings(&list).ok_or_else(|| wrong("`revisions` is a list of names"))?,
        };
        if revisions.iter().any(|name| matches!(name.trim(), "" | ".")) {
            return Err(wrong("a name in `revisions` is empty"));
        }
        let steps = match table.remove("steps") {
            None => Vec::new(),
            Some(list) => {
                steps(&list).ok_or_else(|| wrong("`steps` is a list of whole numbers"))?
            }
        };
        if !steps.is_empty() && steps.len() != revisions.len().max(1) {
            return Err(wrong("`steps` needs one number a revision"));
        }
        let label = match table.remove("label") {
            None => None,
            Some(toml::Value::String(label)) => Some(label),
            Some(_) => return Err(wrong("`label` is a text")),
        };
        Ok(Model {
            pretrained,
            revisions,
            steps,
            label,
            settings: table,
        })
    }

    fn experiment(&self, index: usize, mut table: Table) -> Result<Experiment> {
        let Some(toml::Value::String(name)) = table.remove("name") else {
            let subject = format!("{}: [[experiment]] {}", self.name, index + 1);
            return Err(
                Error::usage(subject, "it needs a `name`, such as existence-validation")
                    .remedy("see docs/sweeps.md"),
            );
        };
        Ok(Experiment {
            name,
            settings: table,
        })
    }
}

fn strings(list: &toml::Value) -> Option<Vec<String>> {
    let list = list.as_array()?.iter();
    list.map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn steps(list: &toml::Value) -> Option<Vec<u64>> {
    let list = list.as_array()?.iter();
    list.map(|value| value.as_integer()?.try_into().ok())
        .collect()
}

/// `[[experiment]] 2 (tokens-analysis)`
fn place(table: &str, index: usize, name: &str) -> String {
    format!("[[{table}]] {} ({name})", index + 1)
}

fn json_value(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(truth) => json!(truth),
        toml::Value::Array(values) => values.iter().map(json_value).collect(),
        // Refused where it becomes an argument.
        toml::Value::Datetime(_) | toml::Value::Table(_) => Value::Null,
    }
}
