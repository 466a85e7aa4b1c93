//! How a browser paints, as `SystemInfo.getInfo` tells it (browser proxy §3.3).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// `graphics` as status answers it.
pub(super) fn describe(told: &Value) -> Value {
    let gpu = told.get("gpu").cloned().unwrap_or_default();
    let attribute = |name: &str| {
        let value = gpu.pointer(&format!("/auxAttributes/{name}"));
        value.cloned().unwrap_or_default()
    };
    let list = |name: &str| gpu.get(name).cloned().unwrap_or_else(|| json!([]));
    let features = gpu
        .get("featureStatus")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let is_software = |status: &str| {
        status.contains("software") || status.starts_with("disabled") || status == "unavailable"
    };
    let compositing = features
        .get("gpu_compositing")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    let acceleration = match compositing {
        "unknown" => "unknown",
        status if is_software(status) => "software",
        _ => "hardware",
    };
    let disabled: Vec<Value> = features
        .iter()
        .filter(|(_, status)| {
            let status = status.as_str().unwrap_or_default();
            status.starts_with("disabled") || status.starts_with("unavailable")
        })
        .map(|(feature, status)| json!({"feature": feature, "status": status}))
        .collect();
    json!({
        "status": "available",
        "observedAt": unix_ms(),
        "acceleration": acceleration,
        "renderer": attribute("glRenderer"),
        "vendor": attribute("glVendor"),
        "version": attribute("glVersion"),
        "backend": attribute("glImplementationParts"),
        "devices": devices(&gpu),
        "featureStatus": features,
        "disabledFeatures": disabled,
        "driverBugWorkarounds": list("driverBugWorkarounds"),
        "videoDecoding": list("videoDecoding"),
        "videoEncoding": list("videoEncoding"),
    })
}

fn devices(gpu: &Value) -> Vec<Value> {
    let renamed = [
        ("vendorId", "vendorId"),
        ("deviceId", "deviceId"),
        ("vendorString", "vendor"),
        ("deviceString", "device"),
        ("driverVendor", "driverVendor"),
        ("driverVersion", "driverVersion"),
    ];
    let listed = gpu.get("devices").and_then(Value::as_array);
    listed
        .into_iter()
        .flatten()
        .map(|device| {
            let members: Map<String, Value> = renamed
                .iter()
                .filter_map(|(from, to)| Some(((*to).to_owned(), whole(device.get(*from)?))))
                .collect();
            Value::Object(members)
        })
        .collect()
}

/// The browser writes whole numbers as `65535.0` at times.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 => {
            let text = format!("{number:.0}");
            text.parse::<u64>()
                .map_or_else(|_| value.clone(), Value::from)
        }
        Some(_) | None => value.clone(),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
