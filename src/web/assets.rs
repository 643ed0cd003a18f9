//! The page's files. Ours are in `assets/` and in the program; the charting library comes through
//! crates.io and is compressed when the program is built (`build.rs`).

use actix_web::http::header::{self, EntityTag, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::RustEmbed;

/// Our own files.
#[derive(RustEmbed)]
#[folder = "src/web/assets/"]
struct Assets;

const CHART_JS_GZIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/chart.js.gz"));
const CHART_JS_VERSION: &str = env!("HEARTWATCH_CHART_JS_VERSION");
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(index))
        .route("/favicon.ico", web::get().to(favicon))
        .route("/favicon.svg", web::get().to(favicon))
        .route(&format!("/assets/chart-{CHART_JS_VERSION}.js"), web::get().to(chart))
        .route("/assets/{name}", web::get().to(asset));
}

async fn index(request: HttpRequest) -> HttpResponse {
    file(&request, "index.html")
}

async fn favicon(request: HttpRequest) -> HttpResponse {
    file(&request, "favicon.svg")
}

async fn asset(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    file(&request, &name)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => JAVASCRIPT,
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Whether the browser has this already.
fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    use actix_web::http::header::Header as _;
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    }
}

/// One of our files. The browser keeps it and asks each time whether it is still the same, so that a
/// new version of the program is seen at once.
fn file(request: &HttpRequest, name: &str) -> HttpResponse {
    let Some(file) = Assets::get(name) else { return HttpResponse::NotFound().finish() };
    let hash = file.metadata.sha256_hash();
    let tag: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let tag = EntityTag::new_weak(tag);
    let known = is_known(request, &tag);
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, "no-cache")).insert_header((header::ETAG, tag.to_string()));
    if known { answer.finish() } else { answer.content_type(content_type(name)).body(file.data.into_owned()) }
}

/// Chart.js. Its address carries its version, so the browser may keep it for good.
async fn chart(request: HttpRequest) -> HttpResponse {
    let tag = EntityTag::new_weak(format!("chart.js-{CHART_JS_VERSION}"));
    let lasting = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    if is_known(&request, &tag) {
        return HttpResponse::NotModified().insert_header(lasting).finish();
    }
    HttpResponse::Ok()
        .content_type(JAVASCRIPT)
        .insert_header(lasting)
        .insert_header((header::ETAG, tag.to_string()))
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .body(CHART_JS_GZIP)
}
