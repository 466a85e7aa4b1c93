//! What a page looks like: `/screenshot`, `/pdf`, `/highlight` (browser proxy §7).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::act::request::Target;
use crate::act::target::{Elements, Limit, Need};
use crate::browser::Browser;
use crate::element::Object;
use crate::proxy::folder::{make_private, write_private};
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::snapshot::labels::{Area, Shown, clear, draw, refs_to_draw};
use crate::snapshot::named::NamedRefs;
use crate::tab::text;

/// How long a capture may take unless the request says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// The least and the most that a request can ask for.
const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));
/// How long an element may take to appear.
const ELEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest side of a picture that is passed on, in pixels.
const MAX_SIDE: f64 = 2000.0;
/// The largest picture that is passed on, in bytes.
const MAX_BYTES: usize = 5 * 1024 * 1024;
/// The largest picture that upstream's decoder takes, in pixels.
const MAX_PIXELS: f64 = 25_000_000.0;
/// What a picture that is too large is tried with, as JPEG.
const QUALITIES: [u32; 4] = [85, 70, 50, 30];
/// The box of an element within its page, which may be scrolled.
const PAGE_BOX: &str = "function () {
    this.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
    const box = this.getBoundingClientRect();
    let x = box.x, y = box.y;
    let view = this.ownerDocument.defaultView;
    while (view !== view.parent && view.frameElement) {
        const frame = view.frameElement;
        const outer = frame.getBoundingClientRect();
        x += outer.x + frame.clientLeft;
        y += outer.y + frame.clientTop;
        view = view.parent;
    }
    return {x: x + view.scrollX, y: y + view.scrollY, width: box.width, height: box.height};
}";

/// A picture's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }
}

/// A screenshot.
pub(crate) struct Picture {
    bytes: Vec<u8>,
    format: Format,
    /// What its labels add to the answer; empty without labels.
    labels: Map<String, Value>,
}

/// `POST /screenshot`.
///
/// # Errors
/// Members that do not go together; a page that cannot be captured.
pub async fn screenshot(browser: &Rc<Browser>, request: &Request) -> Reply {
    let full_page = request.flag("fullPage") == Some(true);
    let target = target(request, "element");
    if full_page && target.is_some() {
        return Err(RouteError::bad_request(
            "fullPage is not supported for element screenshots",
        ));
    }
    let format = match request.text("type") {
        Some("jpeg" | "jpg") => Format::Jpeg,
        Some(_) | None => Format::Png,
    };
    let (least, most) = TIMEOUT_BOUNDS;
    let timeout = request.timeout_within(DEFAULT_TIMEOUT, least, most);
    let page = Page::of(browser, request).await?;
    let has_labels = request.flag("labels") == Some(true);
    let taken = async {
        let of_last = matches!(target, Some(Target::Ref(_)));
        let refs = match has_labels {
            true => Some(refs_to_draw(&page.tab, of_last).await?),
            false => None,
        };
        let picture = picture(&page, target.as_ref(), full_page, format, refs.as_ref()).await?;
        let path = save(browser, &picture.bytes, picture.format.extension())?;
        Ok::<_, RouteError>((path, picture.labels))
    };
    let blocked_or_taken = tokio::time::timeout(timeout, page.tab.unless_blocked(taken));
    let Ok(taken) = blocked_or_taken.await else {
        return Err(RouteError::new(
            500,
            format!(
                "TimeoutError: page.screenshot: Timeout {}ms exceeded.",
                timeout.as_millis()
            ),
        ));
    };
    let Some(taken) = taken else {
        let state = page.tab.state().dialogs.to_state();
        return Ok(page.answer(json!({"blockedByDialog": true, "browserState": state})));
    };
    let (path, labels) = taken?;
    let mut answer = json!({
        "ok": true,
        "path": path.to_string_lossy(),
        "targetId": page.tab.target_id(),
        "url": page.tab.url(),
    });
    if let Value::Object(members) = &mut answer {
        members.extend(labels);
    }
    Ok(answer)
}

/// What a snapshot with labels adds to its answer: the picture that it saves.
///
/// # Errors
/// A page that cannot be captured.
pub(crate) async fn labelled(
    page: &Page,
    refs: &NamedRefs,
) -> Result<Map<String, Value>, RouteError> {
    let picture = picture(page, None, false, Format::Png, Some(refs)).await?;
    let path = save(&page.browser, &picture.bytes, picture.format.extension())?;
    let kind = match picture.format {
        Format::Png => "png",
        Format::Jpeg => "jpeg",
    };
    let mut members = Map::new();
    members.insert("imagePath".to_owned(), json!(path.to_string_lossy()));
    members.insert("imageType".to_owned(), json!(kind));
    members.extend(picture.labels);
    Ok(members)
}

/// The element that a request means, by ref or by selector.
fn target(request: &Request, selector: &str) -> Option<Target> {
    let by_ref = request.text("ref").map(|text| Target::Ref(text.to_owned()));
    by_ref.or_else(|| {
        request
            .text(selector)
            .map(|text| Target::Selector(text.to_owned()))
    })
}

async fn picture(
    page: &Page,
    target: Option<&Target>,
    full_page: bool,
    format: Format,
    refs: Option<&NamedRefs>,
) -> Result<Picture, RouteError> {
    let session = page.tab.session();
    // A page behind others may not paint at all.
    session.call("Page.bringToFront", json!({})).await?;
    let area = match target {
        Some(target) => Some(element_area(page, target).await?),
        None => None,
    };
    let metrics = session.call("Page.getLayoutMetrics", json!({})).await?;
    let side = |pointer: &str| {
        metrics
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    };
    let area = area.unwrap_or_else(|| {
        if full_page {
            Area {
                x: 0.0,
                y: 0.0,
                width: side("/cssContentSize/width"),
                height: side("/cssContentSize/height"),
            }
        } else {
            Area {
                x: side("/cssVisualViewport/pageX"),
                y: side("/cssVisualViewport/pageY"),
                width: side("/cssVisualViewport/clientWidth"),
                height: side("/cssVisualViewport/clientHeight"),
            }
        }
    });
    let density = device_pixel_ratio(page).await;
    let (width, height) = (
        (area.width * density).round().max(1.0),
        (area.height * density).round().max(1.0),
    );
    if width * height > MAX_PIXELS {
        return Err(RouteError::new(
            500,
            format!(
                "RastermillError: Image dimensions exceed the 25,000,000 pixel input limit: \
                 {width}x{height} ({} pixels)",
                width * height
            ),
        ));
    }
    let scale = (MAX_SIDE / width.max(height)).min(1.0);
    let beyond = full_page || target.is_some();
    let shown = match (target, full_page) {
        (Some(_), _) => Shown::Part(area),
        (None, true) => Shown::Page,
        (None, false) => Shown::Viewport,
    };
    let labels = match refs {
        Some(refs) => Some(
            draw(&page.tab, refs, shown)
                .await
                .map_err(RouteError::failed)?,
        ),
        None => None,
    };
    let captured = shrunk(page, area, scale, beyond, format).await;
    if labels.is_some() {
        clear(&page.tab).await.map_err(RouteError::failed)?;
    }
    let (bytes, format) = captured?;
    Ok(Picture {
        bytes,
        format,
        labels: labels
            .map(|labels| labels.members(density * scale))
            .unwrap_or_default(),
    })
}

/// A picture that is small enough to be passed on, as JPEG if it has to be.
async fn shrunk(
    page: &Page,
    area: Area,
    scale: f64,
    beyond: bool,
    format: Format,
) -> Result<(Vec<u8>, Format), RouteError> {
    let bytes = capture(page, area, scale, beyond, format, 90).await?;
    if bytes.len() <= MAX_BYTES {
        return Ok((bytes, format));
    }
    for quality in QUALITIES {
        let bytes = capture(page, area, scale, beyond, Format::Jpeg, quality).await?;
        if bytes.len() <= MAX_BYTES {
            return Ok((bytes, Format::Jpeg));
        }
    }
    Err(RouteError::failed("the screenshot is larger than 5 MiB"))
}

async fn capture(
    page: &Page,
    area: Area,
    scale: f64,
    beyond: bool,
    format: Format,
    quality: u32,
) -> Result<Vec<u8>, RouteError> {
    let mut params = json!({
        "format": match format {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
        },
        "captureBeyondViewport": beyond,
        // Screenshots are looked at once; size matters less than time.
        "optimizeForSpeed": format == Format::Png,
    });
    if let Value::Object(members) = &mut params {
        if format == Format::Jpeg {
            members.insert("quality".to_owned(), quality.into());
        }
        // Without a part to cut out the browser hands over what it has painted already.
        if beyond || scale < 1.0 {
            let clip = json!({
                "x": area.x, "y": area.y, "width": area.width, "height": area.height, "scale": scale,
            });
            members.insert("clip".to_owned(), clip);
        }
    }
    let captured = page
        .tab
        .session()
        .call("Page.captureScreenshot", params)
        .await?;
    decode(&captured)
}

async fn device_pixel_ratio(page: &Page) -> f64 {
    let params = json!({"expression": "devicePixelRatio", "returnByValue": true});
    let evaluated = page.tab.session().call("Runtime.evaluate", params).await;
    evaluated
        .ok()
        .and_then(|evaluated| evaluated.pointer("/result/value")?.as_f64())
        .unwrap_or(1.0)
}

fn decode(answer: &Value) -> Result<Vec<u8>, RouteError> {
    STANDARD
        .decode(text(answer, "data"))
        .map_err(|error| RouteError::failed(format_args!("the browser sent no file: {error}")))
}

async fn element_area(page: &Page, target: &Target) -> Result<Area, RouteError> {
    let elements = Elements {
        tab: &page.tab,
        call: "screenshot",
    };
    let measured = elements
        .act(
            target,
            &[Need::Still],
            Limit::new(ELEMENT_TIMEOUT),
            async |element: &Object| Ok(Ok(element.call(PAGE_BOX, &[]).await?)),
        )
        .await?;
    let side = |name: &str| measured.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    Ok(Area {
        x: side("x"),
        y: side("y"),
        width: side("width").max(1.0),
        height: side("height").max(1.0),
    })
}

fn save(browser: &Browser, bytes: &[u8], extension: &str) -> Result<PathBuf, RouteError> {
    let folder = browser.options().places.media_dir();
    let path = folder.join(format!("{}.{extension}", Uuid::new_v4()));
    write(&folder, &path, bytes)
        .map_err(|error| RouteError::failed(format_args!("{}: {error}", path.display())))?;
    Ok(path)
}

/// Writes a new file that only this user may read, into a folder that is made for it.
pub(super) fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    make_private(folder)?;
    write_private(path, bytes)
}

/// `POST /pdf`.
///
/// # Errors
/// A page that cannot be printed.
pub async fn pdf(page: &Page) -> Reply {
    let params = json!({"printBackground": true});
    let printed = page.tab.session().call("Page.printToPDF", params).await?;
    let path = save(&page.browser, &decode(&printed)?, "pdf")?;
    Ok(json!({
        "ok": true,
        "path": path.to_string_lossy(),
        "targetId": page.tab.target_id(),
        "url": page.tab.url(),
    }))
}

/// `POST /highlight`.
///
/// # Errors
/// An element that there is not.
pub async fn highlight(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(target) = target(request, "selector") else {
        return Err(RouteError::bad_request("ref is required"));
    };
    let page = Page::of(browser, request).await?;
    let elements = Elements {
        tab: &page.tab,
        call: "highlight",
    };
    let limit = Limit::new(ELEMENT_TIMEOUT);
    elements
        .act(
            &target,
            &[Need::Attached],
            limit,
            async |element: &Object| {
                let session = element.session();
                session.call("DOM.enable", json!({})).await?;
                session.call("Overlay.enable", json!({})).await?;
                let colour = json!({"r": 255, "g": 69, "b": 0, "a": 0.4});
                let border = json!({"r": 255, "g": 69, "b": 0, "a": 1});
                let config =
                    json!({"showInfo": true, "contentColor": colour, "borderColor": border});
                let params = json!({"highlightConfig": config, "objectId": element.id()});
                session.call("Overlay.highlightNode", params).await?;
                Ok(Ok(()))
            },
        )
        .await?;
    Ok(page.answer(json!({})))
}
