//! Options of a comparison.

use bulkhaul_engine::ListForm as Form;
use bulkhaul_engine::compare::options::{self, Content, DiffForm, SideOptions};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{Filter, JsLimits, Tree, choice, filter, hash_size, resources, roots};

/// A side of a comparison: trees, or a list.
#[napi(object, object_to_js = false)]
pub struct ComparedSide {
    pub trees: Option<Vec<Tree>>,
    pub list: Option<Buffer>,
    /// The list holds names only; absent: it tells itself.
    pub names: Option<bool>,
}

/// A comparison, as asked for.
#[napi(object, object_to_js = false)]
pub struct CompareOptions {
    pub left: ComparedSide,
    pub right: ComparedSide,
    pub align: Option<bool>,
    pub filter: Option<Filter>,
    pub content: Option<String>,
    pub hash_size: Option<i64>,
    pub metadata: Option<bool>,
    pub directory_times: Option<bool>,
    pub whole_seconds: Option<bool>,
    pub xattrs: Option<bool>,
    pub specials: Option<bool>,
    pub one_file_system: Option<bool>,
    pub output: Option<Buffer>,
    pub form: Option<String>,
    pub finished: Option<Buffer>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

fn side(given: ComparedSide, name: &str) -> Result<SideOptions, String> {
    match (given.trees, given.list) {
        (Some(trees), None) => Ok(SideOptions::Trees(roots(trees))),
        (None, Some(path)) => Ok(SideOptions::List {
            path: path.into(),
            form: given.names.map(|names| if names { Form::Names } else { Form::Hashed }),
        }),
        _ => Err(format!("{name}: either trees or a list")),
    }
}

/// Options into the engine's form. The error names the option.
pub fn compare_options(given: CompareOptions) -> Result<options::CompareOptions, String> {
    let default = options::CompareOptions::new(side(given.left, "left")?, side(given.right, "right")?);
    Ok(options::CompareOptions {
        align: given.align.unwrap_or(default.align),
        filter: given.filter.map(filter).transpose()?,
        content: choice(
            "content",
            given.content.as_deref(),
            default.content,
            &[
                ("nothing", Content::Nothing),
                ("tail", Content::Tail),
                ("whole", Content::Whole),
            ],
        )?,
        hash_size: hash_size(given.hash_size, default.hash_size)?,
        metadata: given.metadata.unwrap_or(default.metadata),
        directory_times: given.directory_times.unwrap_or(default.directory_times),
        whole_seconds: given.whole_seconds.unwrap_or(default.whole_seconds),
        xattrs: given.xattrs.unwrap_or(default.xattrs),
        specials: given.specials.unwrap_or(default.specials),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        output: given.output.map(Vec::from),
        form: choice(
            "form",
            given.form.as_deref(),
            default.form,
            &[
                ("both", DiffForm::Both),
                ("tar", DiffForm::Tar),
                ("changes", DiffForm::Changes),
            ],
        )?,
        finished: given.finished.map(Vec::from),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}
