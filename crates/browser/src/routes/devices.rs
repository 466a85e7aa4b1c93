//! Devices that a page can be shown on: a small table of what agents ask for (browser proxy §7).

/// A device.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    name: &'static str,
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// Pixels per CSS pixel.
    pub scale: f64,
    /// Whether it is touched.
    pub is_mobile: bool,
    system: System,
}

#[derive(Debug, Clone, Copy)]
enum System {
    Iphone,
    Ipad,
    Android(&'static str),
    Windows,
    Mac,
}

const fn mobile(name: &'static str, width: u32, height: u32, scale: f64, system: System) -> Device {
    Device {
        name,
        width,
        height,
        scale,
        is_mobile: true,
        system,
    }
}

const fn desktop(name: &'static str, scale: f64, system: System) -> Device {
    Device {
        name,
        width: 1280,
        height: 720,
        scale,
        is_mobile: false,
        system,
    }
}

const DEVICES: &[Device] = &[
    mobile("iPhone SE", 320, 568, 2.0, System::Iphone),
    mobile("iPhone 11", 414, 715, 2.0, System::Iphone),
    mobile("iPhone 12", 390, 664, 3.0, System::Iphone),
    mobile("iPhone 13", 390, 664, 3.0, System::Iphone),
    mobile("iPhone 13 Mini", 375, 629, 3.0, System::Iphone),
    mobile("iPhone 13 Pro", 390, 664, 3.0, System::Iphone),
    mobile("iPhone 14", 390, 664, 3.0, System::Iphone),
    mobile("iPhone 14 Plus", 428, 746, 3.0, System::Iphone),
    mobile("iPhone 14 Pro", 393, 660, 3.0, System::Iphone),
    mobile("iPhone 14 Pro Max", 430, 740, 3.0, System::Iphone),
    mobile("iPhone 15", 393, 659, 3.0, System::Iphone),
    mobile("iPhone 15 Pro", 393, 659, 3.0, System::Iphone),
    mobile("iPhone 15 Pro Max", 430, 739, 3.0, System::Iphone),
    mobile("iPad Mini", 768, 1024, 2.0, System::Ipad),
    mobile("iPad (gen 7)", 810, 1080, 2.0, System::Ipad),
    mobile("iPad Pro 11", 834, 1194, 2.0, System::Ipad),
    mobile("Pixel 5", 393, 727, 2.75, System::Android("Pixel 5")),
    mobile("Pixel 7", 412, 839, 2.625, System::Android("Pixel 7")),
    mobile("Galaxy S8", 360, 740, 3.0, System::Android("SM-G950U")),
    mobile("Galaxy S9+", 320, 658, 4.5, System::Android("SM-G965U")),
    mobile("Galaxy S24", 360, 780, 3.0, System::Android("SM-S921U")),
    desktop("Desktop Chrome", 1.0, System::Windows),
    desktop("Desktop Chrome HiDPI", 2.0, System::Windows),
    desktop("Desktop Edge", 1.0, System::Windows),
    desktop("Desktop Safari", 2.0, System::Mac),
];

/// The device of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| device.name == name)
}

impl Device {
    /// What its browser calls itself.
    #[must_use]
    pub fn user_agent(&self) -> String {
        const WEBKIT: &str = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0";
        const BLINK: &str = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0";
        match self.system {
            System::Iphone => format!(
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {WEBKIT} Mobile/15E148 \
                 Safari/604.1"
            ),
            System::Ipad => format!(
                "Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) {WEBKIT} Mobile/15E148 Safari/604.1"
            ),
            System::Android(model) => {
                format!("Mozilla/5.0 (Linux; Android 14; {model}) {BLINK} Mobile Safari/537.36")
            }
            System::Windows => {
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Safari/537.36")
            }
            System::Mac => {
                format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Safari/605.1.15")
            }
        }
    }
}
