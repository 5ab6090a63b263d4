//! Requests to a server of objects: signed, sent, tried again where that can help, and their errors sorted.
//!
//! Comes in: a [`Request`]; goes out: its [`Answer`], or a [`Wrong`] that says what it means for whoever asked. Signatures are
//! those of `object_store`; requests are our own, because what a server says is in the code of its error, and keys must
//! arrive as they are. What differs between services is a [`Dialect`]. Secrets are in no message: what is shown has no URL and no headers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::Errno;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequestBody, HttpResponseBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use reqwest::{NoProxy, Proxy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::objects::said::is_of_content;
use crate::objects::xml::{self, Page};
use crate::session::Session;
use crate::store::{Entry, Facts};

/// What stays as it is in a query (RFC 3986, unreserved).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same in a path, where slashes stand for themselves.
pub const PATH: &AsciiSet = &QUERY.remove(b'/');
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take at least, and the slowest that its bytes may go beside that.
const LEAST: Duration = Duration::from_mins(2);
const SLOWEST_BYTES: u64 = 64 << 10;
/// Connections that wait for their next request.
const IDLE_CONNECTIONS: usize = 64;
/// Bytes of an answer that is no content.
const LONGEST_ANSWER: u64 = 64 << 20;

/// Words of our own for a request that nobody has answered.
const CONNECTION: &str = "connection";
const CERTIFICATE: &str = "certificate";
/// The word of S3 for a signature that it does not take.
const SIGNATURE: &str = "SignatureDoesNotMatch";

/// What helps where others of ours were taken.
const READ_OTHERWISE: &str = "it took other signatures: something that is kept with this object it reads otherwise";

/// Behind what may be the proxy's answer.
const PROXIED: &str = " (asked through the proxy)";

/// The sum of a content that a server checks.
pub const CRC_HEADER: &str = "x-amz-checksum-crc64nvme";

/// A request as it goes.
pub type Built = http::Request<HttpRequestBody>;

/// Headers that are kept with an object.
pub type Headers = Vec<(String, String)>;

/// How one kind of server is spoken to.
pub trait Dialect: Send + Sync {
    /// Adds what a request needs, and signs it.
    fn sign(&self, request: &Request, built: &mut Built) -> Result<(), String>;

    /// Headers of a question for an object: what the answer is to tell beside.
    fn asking(&self) -> Vec<(&'static str, String)>;

    /// A page of what is below a prefix, as it is asked for. `shallow`: what is below a directory stands for it; `token`: where
    /// the page begins.
    fn ask_page(&self, prefix: &str, shallow: bool, token: Option<String>) -> Request;

    /// The same as it comes; none where it breaks off, or is none.
    fn page(&self, body: &[u8]) -> Option<Page>;

    /// What the server says of an object of this size.
    fn entry(&self, key: &[u8], answer: &Answer, size: u64) -> Entry;

    /// Headers that keep with an object what is known of it, and which writing it comes from; not what is said of it.
    fn keeping(&self, facts: &Facts, token: &str) -> Headers;

    /// The header by which something is said of an object (`content-type`, `meta-NAME`); none: it can't be said.
    fn saying(&self, name: &str) -> Option<String>;

    /// What is to be said of an error beside its message.
    fn remark(&self, _code: &str, _answer: &Answer) -> Option<String> {
        None
    }
}

/// How a body is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// By its SHA-256.
    #[default]
    Hashed,
    /// Not; a CRC-64/NVME goes with it that the server checks.
    Crc,
    /// The same with an MD5.
    Md5,
}

/// One request.
#[derive(Clone, Default)]
pub struct Request {
    /// What is done.
    pub method: Method,
    /// Key in the bucket; empty: the bucket itself.
    pub key: String,
    /// Names and values.
    pub query: Vec<(&'static str, String)>,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// Those that are kept with the object.
    pub kept: Headers,
    /// Content.
    pub body: Bytes,
    /// How that is signed.
    pub signing: Signing,
    /// Said of the body instead of its SHA-256: what is not true is to be refused.
    pub digest: Option<[u8; 32]>,
    /// Content that comes at most; none: that of a message.
    pub expected: Option<u64>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Content.
    pub body: Bytes,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The bytes that an answer to a question without content says that there are.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// What an error means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may go better another time.
    Transient,
    /// The object is not there.
    Absent,
    /// No such upload: it was completed, or given up.
    NoUpload,
    /// The whole job is wrong: bucket, credentials, clock.
    Hopeless,
    /// Not allowed for this one.
    Denied,
    /// Somebody has changed it meanwhile.
    Changed,
    /// What arrived is not what was sent.
    Damaged,
    /// The server does not take such a name.
    Name,
    /// The server can't do this.
    Unable,
    /// Anything else.
    Other,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// What it means.
    pub fate: Fate,
    /// Status of HTTP; 0: there was no answer.
    pub status: u16,
    /// The code of S3, or a word of our own.
    pub code: String,
    /// In words.
    pub message: String,
}

impl Wrong {
    /// Whether nobody has answered: there was no connection, or none to a server that is trusted.
    pub fn unanswered(&self) -> bool {
        matches!(self.code.as_str(), CONNECTION | CERTIFICATE)
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            0 => write!(formatter, "{}", self.message),
            status if self.message.is_empty() => write!(formatter, "{status} {}", self.code),
            status => write!(formatter, "{status} {}: {}", self.code, self.message),
        }
    }
}

/// What the codes of S3 mean; a status decides where there is none.
fn fate(status: u16, code: &str) -> Fate {
    match code {
        "NoSuchKey" => return Fate::Absent,
        "NoSuchUpload" => return Fate::NoUpload,
        "NoSuchBucket"
        | "ContainerNotFound"
        | "ContainerBeingDeleted"
        | "ContainerDisabled"
        | "AccountIsDisabled"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "InvalidBucketName"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "InvalidSecurity" => return Fate::Hopeless,
        "RequestTimeout"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "OperationAborted"
        | "IncompleteBody" => return Fate::Transient,
        "BadDigest"
        | "Md5Mismatch"
        | "Crc64Mismatch"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "InvalidDigest" => {
            return Fate::Damaged;
        }
        "PreconditionFailed" | "ConditionalRequestConflict" | "NotModified" => return Fate::Changed,
        "KeyTooLongError"
        | "KeyTooLong"
        | "InvalidURI"
        | "InvalidUri"
        | "InvalidResourceName"
        | "XMinioInvalidObjectName" => return Fate::Name,
        "NotImplemented" | "MethodNotAllowed" | "FeatureNotSupported" => return Fate::Unable,
        _ => {}
    }
    match status {
        404 => Fate::Absent,
        301 | 307 | 401 => Fate::Hopeless,
        403 => Fate::Denied,
        408 | 429 | 500 | 502..=504 => Fate::Transient,
        409 | 412 | 304 => Fate::Changed,
        501 | 405 => Fate::Unable,
        _ => Fate::Other,
    }
}

/// What helps, where somebody can help.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "the bucket is not there, or is in another region",
        "InvalidBlobOrBlock" => {
            "somebody else has begun to write this in another way: the server forgets that after a week"
        }
        "AuthenticationFailed" => "look at the name of the account, its key and the clock of this machine",
        "InvalidAccessKeyId" | SIGNATURE | "InvalidSecurity" => "look at the key and its secret",
        "RequestTimeTooSkewed" => "the clock of this machine is wrong",
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "the session is over: get new credentials, and run the same again"
        }
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => "name the region of the bucket with --region",
        _ => return None,
    })
}

/// The way to a server, where that is not just anybody's.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Certificates (PEM) of authorities that are trusted beside those of the system.
    pub authorities: Option<Vec<u8>>,
    /// `http://[USER:PASSWORD@]HOST:PORT`, whom requests go through.
    pub proxy: Option<String>,
    /// Hosts that are asked without it, as `NO_PROXY` names them.
    pub direct: Option<String>,
}

/// Makes clients of HTTP that trust the same servers, and go the same way.
struct Maker {
    tls: ClientConfig,
    proxy: Option<Proxy>,
}

impl Maker {
    fn new(secure: bool, way: &Way) -> Result<Self, Refusal> {
        let authorities = way.authorities.as_deref();
        let bad = |text: String| Refusal::Usage(format!("ca-file: {text}"));
        let mut extra = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(authorities.unwrap_or_default()) {
            extra.push(certificate.map_err(|error| bad(error.to_string()))?);
        }
        if authorities.is_some() && extra.is_empty() {
            return Err(bad("there is no certificate in it (PEM)".into()));
        }
        let no_start = |error: rustls::Error| Refusal::NoStart(format!("no client of TLS: {error}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(no_start)?;
        let tls = if secure {
            let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(no_start)?;
            let builder = builder.dangerous();
            builder.with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            // Nobody shows a certificate: reading those of the system would take longer than a request.
            builder.with_root_certificates(RootCertStore::empty())
        };
        let proxy = way.proxy.as_deref().map(Proxy::all).transpose();
        // Its text may hold a password.
        let is_http = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        let proxy = match proxy {
            Ok(proxy) if way.proxy.as_deref().is_none_or(is_http) => proxy,
            _ => return Err(Refusal::Usage("proxy: this is no http://HOST:PORT".into())),
        };
        let direct = way.direct.as_deref().and_then(NoProxy::from_string);
        Ok(Self {
            tls: tls.with_no_client_auth(),
            proxy: proxy.map(|proxy| proxy.no_proxy(direct)),
        })
    }

    fn make(&self) -> Result<HttpClient, String> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .tcp_nodelay(true)
            // The library does not read the environment.
            .no_proxy()
            .user_agent(concat!("bulkhaul/", env!("CARGO_PKG_VERSION")));
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        let http = builder
            .build()
            .map_err(|error| format!("no client of HTTP: {}", plain(&error)))?;
        Ok(HttpClient::new(http))
    }
}

/// What one thread asks with while it waits for the answer: it drives its own connections, so that it need not wake another
/// thread for each step of a request, nor be woken.
struct Lane {
    runtime: Runtime,
    http: HttpClient,
}

impl Lane {
    /// None: there can be no more of them.
    fn open(maker: &Maker) -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let http = maker.make().ok()?;
        Some(Self { runtime, http })
    }
}

/// Asks one bucket or container.
pub struct Client {
    session: Arc<Session>,
    /// For tasks.
    http: HttpClient,
    /// For whoever waits: those that nobody has now, the last one first.
    lanes: Mutex<Vec<Lane>>,
    /// Makes the clients of HTTP.
    maker: Maker,
    /// Up to the slash before a key.
    base: String,
    /// How its server is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// Why nothing is asked any more.
    hopeless: OnceLock<Wrong>,
    /// Headers of what is written, and those of them that are not about its content.
    asked: Headers,
    asked_aside: Headers,
    /// It has taken a signature: one that it does not take is not wrong for our key.
    trusted: AtomicBool,
}

/// Refuses what is no endpoint; answers its scheme and host.
pub fn endpoint_of(endpoint: &str) -> Result<(&str, &str), Refusal> {
    let (scheme, host) = endpoint.split_once("://").ok_or_else(|| wrong_endpoint(endpoint))?;
    let is_host = !host.is_empty() && !host.contains(['@', '?', '#', ' ', '\\']);
    if matches!(scheme, "http" | "https") && is_host {
        return Ok((scheme, host));
    }
    Err(wrong_endpoint(endpoint))
}

fn wrong_endpoint(endpoint: &str) -> Refusal {
    Refusal::Usage(format!(
        "endpoint-url: {endpoint} is not http://HOST[:PORT] or https://HOST[:PORT]"
    ))
}

impl Client {
    /// For the place whose keys come behind `base`. Refuses what is no URL or certificate; asks nothing yet. `headers`: what is
    /// said of all that is written.
    pub fn new(
        session: &Arc<Session>,
        base: String,
        (way, headers): (&Way, &[(String, String)]),
        dialect: Arc<dyn Dialect>,
    ) -> Result<Self, Refusal> {
        let uri: Result<http::Uri, _> = base.parse();
        uri.map_err(|_| wrong_endpoint(&base))?;
        let maker = Maker::new(base.starts_with("https:"), way)?;
        let http = maker.make().map_err(Refusal::NoStart)?;
        let asked = |aside: bool| -> Headers {
            let headers = headers.iter().filter(|(name, _)| !aside || !is_of_content(name));
            let named = headers.filter_map(|(name, value)| Some((dialect.saying(name)?, value.clone())));
            named.collect()
        };
        Ok(Self {
            asked: asked(false),
            asked_aside: asked(true),
            session: Arc::clone(session),
            http,
            lanes: Mutex::default(),
            maker,
            base,
            dialect,
            hopeless: OnceLock::new(),
            trusted: AtomicBool::new(false),
        })
    }

    /// The whole URL of a key.
    pub fn url(&self, key: &str) -> String {
        format!("{}{}", self.base, utf8_percent_encode(key, PATH))
    }

    /// The key of a URL that [`Client::url`] made; none: it is of another place.
    pub fn key(&self, url: &[u8]) -> Option<String> {
        let key = url.strip_prefix(self.base.as_bytes())?;
        String::from_utf8(percent_decode(key).collect()).ok()
    }

    /// What whoever asked for the job wants said of all that is written. `aside`: of what is kept as it was.
    pub fn asked(&self, aside: bool) -> &[(String, String)] {
        if aside { &self.asked_aside } else { &self.asked }
    }

    /// Behind what may be the words of a proxy.
    fn proxied(&self) -> &'static str {
        if self.maker.proxy.is_some() { PROXIED } else { "" }
    }

    /// The question for an object without its content.
    pub fn head(&self, key: &str) -> Request {
        Request {
            method: Method::HEAD,
            ..self.get(key)
        }
    }

    /// The question for an object.
    pub fn get(&self, key: &str) -> Request {
        Request {
            key: key.to_owned(),
            headers: self.dialect.asking(),
            ..Request::default()
        }
    }

    /// Sends a request, again where that can help, and waits for the answer.
    pub fn ask(&self, request: &Request) -> Result<Result<Answer, Wrong>, Stopped> {
        let free = self.lanes().pop();
        let Some(lane) = free.or_else(|| Lane::open(&self.maker)) else {
            // No descriptors are left for one.
            return self.session.wait(self.send(request));
        };
        let asked = async {
            // What a server has closed while nobody drove the lane is seen in the first turn, and gone after the second.
            yield_now().await;
            yield_now().await;
            self.send_by(&lane.http, request).await
        };
        let answer = self.session.wait_in(&lane.runtime, asked);
        self.lanes().push(lane);
        answer
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server says of an object, whole name and the store's own; none: there is none.
    pub fn stat(&self, whole: &str, key: &[u8], side: Side) -> Result<Option<Entry>, Stopped> {
        match self.ask(&self.head(whole))? {
            Ok(answer) => match answer.length() {
                Some(length) => Ok(Some(self.dialect.entry(key, &answer, length))),
                None => Err(Fault {
                    operation: Operation::Stat,
                    side,
                    cause: Cause::Answered("server", "the server does not say how long it is".into()),
                }
                .into()),
            },
            Err(Wrong { fate: Fate::Absent, .. }) => Ok(None),
            Err(wrong) => Err(fault(Operation::Stat, side, &wrong).into()),
        }
    }

    /// The same for a task.
    pub async fn send(&self, request: &Request) -> Result<Answer, Wrong> {
        self.send_by(&self.http, request).await
    }

    async fn send_by(&self, http: &HttpClient, request: &Request) -> Result<Answer, Wrong> {
        let retry = &self.session.options.retry;
        let (mut again, mut damaged) = (0, false);
        loop {
            if let Some(hopeless) = self.hopeless.get() {
                return Err(hopeless.clone());
            }
            let wrong = match self.once_by(http, request).await {
                Ok(answer) => {
                    self.trusted.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(wrong) => wrong,
            };
            let useful = match wrong.fate {
                Fate::Transient => again < retry.retries,
                // Once more from memory tells a bad wire from bad memory.
                Fate::Damaged => !std::mem::replace(&mut damaged, true),
                Fate::Hopeless => {
                    self.hopeless.get_or_init(|| wrong.clone());
                    false
                }
                _ => false,
            };
            if !useful || self.session.cancel.is_draining() {
                return Err(wrong);
            }
            tokio::time::sleep(retry.pause(again, chance())).await;
            again += 1;
        }
    }

    /// Sends it once.
    pub async fn once(&self, request: &Request) -> Result<Answer, Wrong> {
        self.once_by(&self.http, request).await
    }

    async fn once_by(&self, http: &HttpClient, request: &Request) -> Result<Answer, Wrong> {
        let own = |code: &str, message: String| Wrong {
            fate: Fate::Other,
            status: 0,
            code: code.to_owned(),
            message,
        };
        let signed = self.build(request).map_err(|message| own("request", message))?;
        let expected = request.expected.unwrap_or(0);
        let bytes = request.body.len() as u64 + expected;
        let limit = LEAST + Duration::from_secs(bytes / SLOWEST_BYTES);
        let asked = async {
            let response = http.execute(signed).await?;
            let (parts, body) = response.into_parts();
            let likely = if parts.status.is_success() { expected } else { 0 };
            let body = self.gather(body, likely, expected.max(LONGEST_ANSWER)).await?;
            Ok((parts, body))
        };
        let lost = |message: String| Wrong {
            fate: Fate::Transient,
            status: 0,
            code: CONNECTION.to_owned(),
            message: format!("{message}{}", self.proxied()),
        };
        let (parts, body) = match tokio::time::timeout(limit, asked).await {
            Err(_) => return Err(lost(format!("no answer in {} s", limit.as_secs()))),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let error: HttpError = error;
                let message = plain(&error);
                // A certificate that is not trusted now will not be in a moment.
                if error.kind() == HttpErrorKind::Connect && message.contains("certificate") {
                    let message = format!("{message} (--ca-file names an authority that is to be trusted)");
                    return Err(Wrong {
                        fate: Fate::Hopeless,
                        ..own(CERTIFICATE, message)
                    });
                }
                return Err(lost(message));
            }
        };
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        };
        // A message is short; whatever goes on beyond that is none.
        let is_long = answer.body.len() as u64 > expected.max(LONGEST_ANSWER);
        let spoken = if parts.status.is_success() && request.expected.is_some() {
            None
        } else {
            xml::error(&answer.body)
        };
        if parts.status.is_success() && spoken.is_none() && !is_long {
            return Ok(answer);
        }
        Err(self.wrong(&answer, spoken, is_long))
    }

    /// What comes, in memory that is made for what is likely; of more than `most` bytes so many and one.
    async fn gather(&self, mut body: HttpResponseBody, likely: u64, most: u64) -> Result<Bytes, HttpError> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1);
        let (mut buffer, mut come) = (self.session.buffer(likely), 0);
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            let end = come + piece.len().min(most - come);
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            buffer[come..end].copy_from_slice(&piece[..end - come]);
            come = end;
            if come == most {
                break;
            }
        }
        buffer.truncate(come);
        Ok(buffer.into())
    }

    fn wrong(&self, answer: &Answer, spoken: Option<xml::Spoken>, is_long: bool) -> Wrong {
        let spoken = spoken.unwrap_or_default();
        // A store says in XML what is wrong, and with it what it calls that.
        let proxied = if spoken.code.is_empty() { self.proxied() } else { "" };
        let code = if is_long {
            "TooLong".to_owned()
        } else if spoken.code.is_empty() {
            // What has no body (HEAD) is told by a header, or by its status.
            let status = http::StatusCode::from_u16(answer.status);
            let reason = status.ok().and_then(|status| status.canonical_reason());
            let told = answer.header("x-ms-error-code");
            told.map_or_else(|| reason.unwrap_or("error").replace(' ', ""), str::to_owned)
        } else {
            spoken.code
        };
        let is_only_here = code == SIGNATURE && self.trusted.load(Ordering::Relaxed);
        let fate = match fate(answer.status, &code) {
            _ if is_only_here => Fate::Other,
            // An answer with the status 200 that is an error.
            Fate::Other if answer.status == 200 => Fate::Transient,
            fate => fate,
        };
        let mut message = format!("{}{proxied}", spoken.message);
        if let Some(remark) = self.dialect.remark(&code, answer) {
            message = format!("{message} ({remark})");
        }
        let hint = if is_only_here {
            Some(READ_OTHERWISE)
        } else {
            hint(&code)
        };
        if let Some(hint) = hint {
            message = format!("{message} ({hint})");
        }
        Wrong {
            fate,
            status: answer.status,
            code,
            message: message.trim().to_owned(),
        }
    }

    /// A request as it goes.
    pub fn build(&self, request: &Request) -> Result<Built, String> {
        let mut url = self.url(&request.key);
        for (index, (name, value)) in request.query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        let mut built = http::Request::new(HttpRequestBody::from(request.body.clone()));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = url.parse().map_err(|error| format!("{error}"))?;
        for (name, value) in &request.headers {
            put_header(&mut built, name, value)?;
        }
        for (name, value) in &request.kept {
            put_header(&mut built, name, value)?;
        }
        // Of an empty body the client itself says nothing, which Ceph refuses (411), as HTTP allows (RFC 9110, 8.6).
        if matches!(request.method, Method::PUT | Method::POST) {
            put_header(&mut built, "content-length", &request.body.len().to_string())?;
        }
        self.dialect.sign(request, &mut built)?;
        Ok(built)
    }
}

/// Puts a header in. The error says which has a value that none has.
pub fn put_header(built: &mut Built, name: &str, value: &str) -> Result<(), String> {
    let value = HeaderValue::from_str(value).map_err(|_| format!("{name} has a value that no header has"))?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name} is the name of no header"))?;
    built.headers_mut().insert(name, value);
    Ok(())
}

/// A CRC-64/NVME as headers have it.
pub fn crc_text(crc: u64) -> String {
    BASE64_STANDARD.encode(crc.to_be_bytes())
}

/// The same read.
pub fn crc_of(text: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// An error and its causes in one line, without the URL.
fn plain(error: &dyn std::error::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.iter().any(|word| word.contains(&text)) {
            words.push(text);
        }
        cause = error.source();
    }
    words.join(": ")
}

/// A number from 0 to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let number = RandomState::new().hash_one(0) >> 11;
    number as f64 / (1u64 << 53) as f64
}

/// A failed request as the engine's books have it.
pub fn fault(operation: Operation, side: Side, wrong: &Wrong) -> Fault {
    let kind = match wrong.fate {
        Fate::Absent => return Fault::new(operation, side, Errno::NOENT),
        Fate::Changed if side == Side::Source => return Fault::changed(operation),
        Fate::Changed => "conflict",
        Fate::Denied => "permission",
        Fate::Name => "name",
        Fate::Unable => "unsupported",
        Fate::Damaged => "damaged",
        Fate::Transient => "unavailable",
        Fate::Hopeless => "refused",
        Fate::NoUpload | Fate::Other => "server",
    };
    Fault {
        operation,
        side,
        cause: Cause::Answered(kind, wrong.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use bulkhaul_sys::{Kind, Time};

    use super::*;
    use crate::session::{Retry, SessionOptions};

    /// Adds nothing.
    struct Plain;

    impl Dialect for Plain {
        fn sign(&self, _: &Request, _: &mut Built) -> Result<(), String> {
            Ok(())
        }

        fn asking(&self) -> Vec<(&'static str, String)> {
            Vec::new()
        }

        fn ask_page(&self, _: &str, _: bool, _: Option<String>) -> Request {
            Request::default()
        }

        fn page(&self, _: &[u8]) -> Option<Page> {
            None
        }

        fn entry(&self, key: &[u8], _: &Answer, size: u64) -> Entry {
            Entry {
                key: key.to_vec(),
                kind: Kind::File,
                size,
                written: Time { sec: 0, nsec: 0 },
                tag: Vec::new(),
                facts: None,
                failed: false,
            }
        }

        fn keeping(&self, _: &Facts, _: &str) -> Headers {
            Vec::new()
        }

        fn saying(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn answer(server: &TcpListener) -> TcpStream {
        let (mut stream, _) = server.accept().unwrap();
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
        stream
    }

    /// Nobody drives a connection between two requests: that its server has closed it is seen before the next one goes.
    #[test]
    fn a_connection_that_was_closed_meanwhile_takes_no_request() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let options = SessionOptions {
            retry: Retry {
                retries: 0,
                ..Retry::default()
            },
            ..SessionOptions::default()
        };
        let session = Session::open(options, Arc::default()).unwrap();
        let client = Client::new(
            &session,
            format!("http://127.0.0.1:{port}/b/"),
            (&Way::default(), &[]),
            Arc::new(Plain),
        )
        .unwrap();
        let serving = thread::spawn(move || {
            let stream = answer(&server);
            (server, stream)
        });
        let ask = || {
            client
                .ask(&client.get("key"))
                .unwrap()
                .map(|answer| answer.body.to_vec())
        };
        assert_eq!(ask().unwrap(), b"ok");
        let (server, stream) = serving.join().unwrap();
        drop(stream);
        // Until the end of the client knows of it: close-wait, in the list of the kernel.
        let line = format!(" 0100007F:{port:04X} 08 ");
        while !fs::read_to_string("/proc/self/net/tcp").unwrap().contains(&line) {
            thread::yield_now();
        }
        let serving = thread::spawn(move || answer(&server));
        assert_eq!(ask().unwrap(), b"ok");
        assert_eq!(client.lanes().len(), 1);
        serving.join().unwrap();
    }

    #[test]
    fn errors_mean_what_they_say() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Fate::Absent),
            (404, "NoSuchBucket", Fate::Hopeless),
            (404, "NotFound", Fate::Absent),
            (404, "NoSuchUpload", Fate::NoUpload),
            (403, "AccessDenied", Fate::Denied),
            (403, "RequestTimeTooSkewed", Fate::Hopeless),
            (400, "RequestTimeout", Fate::Transient),
            (400, "ExpiredToken", Fate::Hopeless),
            (400, "BadDigest", Fate::Damaged),
            (400, "InvalidPart", Fate::Other),
            (503, "SlowDown", Fate::Transient),
            (500, "", Fate::Transient),
            (429, "TooManyRequests", Fate::Transient),
            (412, "PreconditionFailed", Fate::Changed),
            (501, "NotImplemented", Fate::Unable),
        ] {
            assert_eq!(fate(status, code), expected, "{status} {code}");
        }
    }
}
