//! The sizes of what is shipped.

use std::fs;

use tests::binaries;

use crate::report::{Figure, Section};

/// Looks at the binaries beside this program.
///
/// # Errors
/// When one is missing.
pub fn measure() -> anyhow::Result<Section> {
    let programs = [
        binaries::agent(),
        binaries::injector(),
        binaries::keeper(),
        binaries::enroll(),
    ];
    let figures = programs.into_iter().map(|path| {
        let name = path.file_name().unwrap_or_default().display();
        let bytes = u32::try_from(fs::metadata(&path)?.len())?;
        let size = f64::from(bytes) / 1e6;
        Ok(Figure::new(format!("`{name}`"), "MB", vec![size]))
    });
    Ok(Section {
        title: "Sizes of the binaries, in the profile that was measured".to_owned(),
        figures: figures.collect::<anyhow::Result<_>>()?,
    })
}
