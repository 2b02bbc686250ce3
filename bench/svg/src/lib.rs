//! Line plots, as SVG that a browser shows.

use std::fmt::Write as _;

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its points, by `x`.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = [
    "#0b62a4", "#c2410c", "#4d7c0f", "#7e22ce", "#0f766e", "#525252",
];

/// Draws `lines` over linear axes from zero.
pub fn svg(title: &str, (x_name, y_name): (&str, &str), lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x_end = nice(all().map(|(x, _)| x).fold(0.0, f64::max));
    let y_end = nice(all().map(|(_, y)| y).fold(0.0, f64::max));
    let x_of = |x: f64| LEFT + x / x_end * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| HEIGHT - BOTTOM - y / y_end * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, colour: &str, words: &str| {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>"
        );
    };
    text(LEFT, 18.0, "start", "#111", title);
    text(WIDTH - RIGHT, HEIGHT - 12.0, "end", "#444", x_name);
    text(LEFT, 33.0, "start", "#444", y_name);
    for step in 0..=5 {
        let share = f64::from(step) / 5.0;
        let (x, y) = (share * x_end, share * y_end);
        text(x_of(x), HEIGHT - BOTTOM + 16.0, "middle", "#444", &tick(x));
        text(LEFT - 6.0, y_of(y) + 4.0, "end", "#444", &tick(y));
    }
    for (number, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let row = u32::try_from(number).unwrap_or_default();
        let y = TOP + 12.0 + 15.0 * f64::from(row);
        text(WIDTH - RIGHT, y, "end", colour, &line.name);
    }
    for step in 0..=5 {
        let y = y_of(f64::from(step) / 5.0 * y_end);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|&(x, y)| format!("{:.1},{:.1}", x_of(x), y_of(y)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The next 1, 2, 2.5 or 5 times a power of ten.
fn nice(end: f64) -> f64 {
    if end <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(end.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= end);
    step.unwrap_or(10.0) * power
}

fn tick(value: f64) -> String {
    let rounded = (value * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_inside_and_names_cannot_break_out() {
        let line = Line {
            name: "a<b>".to_owned(),
            points: vec![(0.0, 0.0), (3.0, 7.0)],
        };
        let svg = svg("t", ("x", "y"), &[line]);
        assert!(svg.contains("a&lt;b>") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("points=\"70.0,310.0 472.0,"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 3.0, 47.0].map(nice).map(tick), ["1", "5", "50"]);
    }
}
