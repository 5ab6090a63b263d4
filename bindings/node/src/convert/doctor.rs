//! What a machine and a directory allow.

use bulkhaul_engine::doctor::{Answer, Probe};
use napi_derive::napi;

/// Whether one thing can be had; `error`: why not.
#[napi(object, object_from_js = false, js_name = "Answer")]
pub struct JsAnswer {
    pub name: String,
    pub error: Option<String>,
}

/// What was found by trying. Bytes a second; `from_cache`: bytes of 64 MiB, absent where the kernel does not tell.
#[napi(object, object_from_js = false, js_name = "Probe")]
pub struct JsProbe {
    pub answers: Vec<JsAnswer>,
    pub written: f64,
    pub read: f64,
    pub from_cache: Option<f64>,
}

pub fn answer(Answer { name, error }: Answer) -> JsAnswer {
    JsAnswer {
        name: name.into(),
        error,
    }
}

pub fn probe(probe: Probe) -> JsProbe {
    JsProbe {
        answers: probe.answers.into_iter().map(answer).collect(),
        written: probe.written,
        read: probe.read,
        from_cache: probe.from_cache.map(|bytes| bytes as f64),
    }
}
