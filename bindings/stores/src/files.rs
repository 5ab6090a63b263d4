//! A store, file by file: the classes `Files`, `FileReader` and `FileWriter`. Each call runs on a thread of its own, and its
//! promise settles from there.

use std::collections::HashMap;
use std::sync::Arc;

use bulkhaul_engine::error::Failure;
use bulkhaul_stores::files::{Files as Opened, Reader, Writer};
use bulkhaul_stores::store::{Entry, Facts};
use bulkhaul_sys::{Kind, Time};
use napi::bindgen_prelude::{Buffer, Error, Object, Result, Status, ToNapiValue};
use napi::{Env, JsDeferred, JsValue};
use napi_derive::napi;

use crate::convert::StoreAccess;
use crate::convert::StoreRequests;

/// A store that is opened.
#[napi(object, object_to_js = false)]
pub struct FilesOptions {
    pub place: Buffer,
    pub access: Option<StoreAccess>,
    pub headers: Option<HashMap<String, String>>,
    pub requests: Option<StoreRequests>,
}

/// What is known of an entry.
#[napi(object, object_from_js = false)]
pub struct FileEntry {
    pub key: Buffer,
    pub directory: bool,
    pub size: f64,
    pub written: f64,
    pub mtime: Option<f64>,
    pub mode: Option<u32>,
    pub tag: Option<Buffer>,
}

fn seconds(time: Time) -> f64 {
    time.as_float()
}

fn entry(entry: Entry) -> FileEntry {
    let facts = entry.facts.unwrap_or_default();
    FileEntry {
        directory: entry.kind == Kind::Directory,
        size: entry.size as f64,
        written: seconds(entry.written),
        mtime: facts.mtime.map(seconds),
        mode: facts.mode,
        tag: (!entry.tag.is_empty()).then(|| entry.tag.into()),
        key: entry.key.into(),
    }
}

/// An error that carries its stable code as `code`, and what it is about as `path`.
fn failed(env: Env, failure: &Failure) -> Error {
    let path = String::from_utf8_lossy(&failure.path);
    let message = format!("{} {path}: {}", failure.operation.text(), failure.message);
    let with_code = env
        .create_error(Error::new(Status::GenericFailure, message.clone()))
        .and_then(|mut error: Object<'_>| {
            error.set("code", "STORE")?;
            error.set("kind", failure.kind)?;
            Ok(Error::from(error.to_unknown()))
        });
    with_code.unwrap_or_else(|_| Error::new(Status::GenericFailure, message))
}

/// Made on the JavaScript thread when a promise settles.
type Resolver<T> = Box<dyn FnOnce(Env) -> Result<T> + Send>;

/// Does it on a thread of its own.
fn promised<T, J>(
    env: &Env,
    work: impl FnOnce() -> std::result::Result<T, Failure> + Send + 'static,
    convert: impl FnOnce(T) -> J + Send + 'static,
) -> Result<Object<'_>>
where
    T: Send + 'static,
    J: ToNapiValue + 'static,
{
    let (deferred, promise): (JsDeferred<J, Resolver<J>>, _) = env.create_deferred()?;
    let thread = std::thread::Builder::new().name("bulkhaul-call".into());
    thread
        .spawn(move || {
            let result = work();
            deferred.resolve(Box::new(move |env| match result {
                Ok(value) => Ok(convert(value)),
                Err(failure) => Err(failed(env, &failure)),
            }));
        })
        .map_err(|error| Error::new(Status::GenericFailure, format!("no thread could be started: {error}")))?;
    Ok(promise)
}

/// A store.
#[napi]
pub struct Files(Opened);

impl From<Opened> for Files {
    fn from(files: Opened) -> Self {
        Self(files)
    }
}

#[napi]
impl Files {
    /// What is in a directory, whose key is empty or ends with a slash.
    #[napi(ts_return_type = "Promise<Array<FileEntry>>")]
    pub fn list<'env>(&self, env: &'env Env, directory: Buffer) -> Result<Object<'env>> {
        let (files, key) = (self.0.clone(), Vec::from(directory));
        let convert = |entries: Vec<Entry>| entries.into_iter().map(entry).collect::<Vec<_>>();
        promised(env, move || files.list(&key), convert)
    }

    /// One entry; null where there is none.
    #[napi(ts_return_type = "Promise<FileEntry | null>")]
    pub fn stat<'env>(&self, env: &'env Env, key: Buffer) -> Result<Object<'env>> {
        let (files, key) = (self.0.clone(), Vec::from(key));
        promised(env, move || files.stat(&key), |found| found.map(entry))
    }

    /// Begins to read one, from a byte to another, or to its end.
    #[napi]
    pub fn read(&self, env: Env, key: Buffer, from: f64, to: Option<f64>) -> Result<FileReader> {
        let byte = |at: f64| crate::convert::bytes("range", at).map_err(|text| Error::new(Status::InvalidArg, text));
        let to = to.map(byte).transpose()?;
        let reader = self.0.read(&Vec::from(key), byte(from)?, to);
        reader
            .map(|reader| FileReader(Arc::new(reader)))
            .map_err(|failure| failed(env, &failure))
    }

    /// Begins to write one. `mtime`: its last change, in seconds since 1970.
    #[napi]
    pub fn write(&self, env: Env, key: Buffer, mtime: Option<f64>) -> Result<FileWriter> {
        let time = |at: f64| crate::convert::moment("mtime", at).map_err(|text| Error::new(Status::InvalidArg, text));
        let facts = Facts {
            mtime: mtime.map(time).transpose()?,
            ..Facts::default()
        };
        let writer = self.0.write(&Vec::from(key), &facts);
        writer
            .map(|writer| FileWriter(Some(Arc::new(writer))))
            .map_err(|failure| failed(env, &failure))
    }
}

/// A content that comes back.
#[napi]
pub struct FileReader(Arc<Reader>);

#[napi]
impl FileReader {
    /// The next part; null at the end. One call at a time.
    #[napi(ts_return_type = "Promise<Buffer | null>")]
    pub fn next<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let reader = Arc::clone(&self.0);
        promised(
            env,
            move || reader.next(),
            |part| part.map(|part| Buffer::from(part.to_vec())),
        )
    }
}

/// A content that is taken in.
#[napi]
pub struct FileWriter(Option<Arc<Writer>>);

#[napi]
impl FileWriter {
    /// More. One call at a time.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn put<'env>(&self, env: &'env Env, bytes: Buffer) -> Result<Object<'env>> {
        let writer = self.writer()?;
        let bytes = Vec::from(bytes);
        promised(env, move || writer.put(bytes.into()), |()| ())
    }

    /// The end: it appears.
    #[napi(ts_return_type = "Promise<FileEntry>")]
    pub fn finish<'env>(&mut self, env: &'env Env) -> Result<Object<'env>> {
        let writer = self.writer()?;
        self.0 = None;
        promised(env, move || writer.finish(), |done| done.map(entry))
    }

    /// Nothing is left of it.
    #[napi]
    pub fn abort(&mut self) {
        self.0 = None;
    }

    fn writer(&self) -> Result<Arc<Writer>> {
        self.0
            .clone()
            .ok_or_else(|| Error::new(Status::GenericFailure, "it has ended already"))
    }
}
