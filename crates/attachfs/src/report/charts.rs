//! Charts as inline SVG. Texts stand beside them in HTML, so that they keep their size at any width.

/// The width of all charts in their own units: they are as wide as there is room.
const WIDTH: f64 = 1000.0;

/// One part of a whole: the class of its colour, and how much it is.
pub(super) type Part<'a> = (&'a str, u64);

fn svg(class: &str, height: f64, what: &str, inside: &str) -> String {
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{what}\">{inside}</svg>\n"
    )
}

fn rect(class: &str, (x, width): (f64, f64), (y, height): (f64, f64)) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/>"
    )
}

/// A bar of parts side by side. Nothing but the background if all are 0. `what` is no text from outside.
pub(super) fn parts(parts: &[Part<'_>], what: &str) -> String {
    const HEIGHT: f64 = 24.0;
    let sum: f64 = parts.iter().map(|(_, part)| *part as f64).sum();
    let mut inside = rect("ground", (0.0, WIDTH), (0.0, HEIGHT));
    let mut x = 0.0;
    for (class, part) in parts.iter().filter(|(_, part)| *part > 0) {
        let width = *part as f64 / sum * WIDTH;
        inside += &rect(class, (x, width), (0.0, HEIGHT));
        x += width;
    }
    svg("bar", HEIGHT, what, &inside)
}

/// A column for each number.
pub(super) fn columns(numbers: &[u64], what: &str) -> String {
    const HEIGHT: f64 = 160.0;
    let most = numbers.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = WIDTH / numbers.len().max(1) as f64;
    let mut inside = rect("ground", (0.0, WIDTH), (HEIGHT - 1.0, 1.0));
    for (at, number) in numbers
        .iter()
        .enumerate()
        .filter(|(_, number)| **number > 0)
    {
        // A single file among thousands is to be seen, too.
        let height = (*number as f64 / most * HEIGHT).max(3.0);
        let place = (at as f64 * width + width * 0.1, width * 0.8);
        inside += &rect("one", place, (HEIGHT - height, height));
    }
    svg("columns", HEIGHT, what, &inside)
}

/// Where in a file its ranges lie.
pub(super) fn ranges(ranges: &[(u64, u64)], size: u64) -> String {
    const HEIGHT: f64 = 10.0;
    // What is read of a very long file is to be seen, too.
    const LEAST: f64 = 6.0;
    let size = size.max(1) as f64;
    let mut inside = rect("ground", (0.0, WIDTH), (0.0, HEIGHT));
    for (from, to) in ranges {
        let x = (*from as f64 / size * WIDTH).clamp(0.0, WIDTH - LEAST);
        let width = (to.saturating_sub(*from) as f64 / size * WIDTH).clamp(LEAST, WIDTH - x);
        inside += &rect("one", (x, width), (0.0, HEIGHT));
    }
    svg("ranges", HEIGHT, "the part that was read", &inside)
}
