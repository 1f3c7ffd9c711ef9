//! The live view on a terminal.
//!
//! ```text
//!     keys (a thread)  --.
//!     signals          --+-->  show: draws, waits for the next of them, draws again
//!     counts, each second'
//! ```
//!
//! The terminal is as it was before when [`Screen`] is dropped, and after a panic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use attachfs::{OperationStats, Places, SessionEntry, StatsReport, Stop, StopSignal};
use indicatif::HumanCount;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, List, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use super::asking::{ask_again, clock};
use super::table::{open_file, time};
use crate::exit::Failure;
use crate::output::{bytes, count};

/// Seconds that are remembered: more than a terminal is wide.
const REMEMBERED: usize = 512;

/// Shows the counts until the user has seen enough or the mount has ended.
pub(super) async fn show(
    found: &SessionEntry,
    places: &Places,
    first: StatsReport,
) -> Result<(), Failure> {
    let mut interrupt = StopSignal::listen(Stop::Interrupt)?;
    let mut terminate = StopSignal::listen(Stop::Terminate)?;
    let mut hang_up = StopSignal::listen(Stop::HangUp)?;
    let mut screen = Screen::open()?;
    let mut keys = keys();
    let mut view = View::new(first);
    let mut clock = clock().await;
    loop {
        let next = async {
            clock.tick().await;
            ask_again(found, places).await
        };
        tokio::pin!(next);
        let report = loop {
            screen.draw(&view)?;
            tokio::select! {
                report = &mut next => break report?,
                key = pressed(&mut keys) => match key {
                    Key::Quit => return Ok(()),
                    // Drawn anew, as wide and high as it is now.
                    Key::Resized => {}
                },
                () = interrupt.recv() => return Ok(()),
                () = terminate.recv() => return Err(Failure::Code(crate::exit::CANCELLED)),
                () = hang_up.recv() => return Err(Failure::Code(crate::exit::CANCELLED)),
            }
        };
        match report {
            Some(report) => view.next(report),
            None => return Ok(()),
        }
    }
}

/// The terminal while it shows the view.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Self> {
        // It also restores the terminal if this process panics.
        let terminal = ratatui::try_init();
        Ok(Self(terminal.context("cannot draw on the terminal")?))
    }

    fn draw(&mut self, view: &View) -> anyhow::Result<()> {
        let drawn = self.0.draw(|frame| view.draw(frame));
        drawn.context("cannot draw on the terminal")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

enum Key {
    Quit,
    Resized,
}

/// What is pressed, read on a thread of its own, which ends with the process.
fn keys() -> mpsc::UnboundedReceiver<Key> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if quits(&key) => Key::Quit,
                Event::Resize(..) => Key::Resized,
                _ => continue,
            };
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    keys
}

fn quits(key: &KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.is_press()
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => is_control,
            _ => false,
        }
}

/// The next key. Where none can be pressed any more it never comes.
async fn pressed(keys: &mut mpsc::UnboundedReceiver<Key>) -> Key {
    match keys.recv().await {
        Some(key) => key,
        None => std::future::pending().await,
    }
}

/// What is shown.
struct View {
    report: StatsReport,
    at: Instant,
    /// Bytes that were read in each second, the last one first.
    read: VecDeque<u64>,
    /// Bytes that were written in the last second.
    written: u64,
    /// Bytes that came from the store in the last second.
    fetched: u64,
    /// Operations in the last second, in the order of the report.
    rates: Vec<u64>,
}

impl View {
    fn new(report: StatsReport) -> Self {
        Self {
            rates: vec![0; report.operations.len()],
            report,
            at: Instant::now(),
            read: VecDeque::new(),
            written: 0,
            fetched: 0,
        }
    }

    /// Shows later counts.
    fn next(&mut self, report: StatsReport) {
        let passed = self.at.elapsed();
        self.at = Instant::now();
        let (was, is) = (&self.report.bytes, &report.bytes);
        self.read.truncate(REMEMBERED - 1);
        self.read.push_front(rate(was.read, is.read, passed));
        self.written = rate(was.written, is.written, passed);
        self.fetched = rate(was.from_store, is.from_store, passed);
        let before = |now: &OperationStats| {
            let mut all = self.report.operations.iter();
            all.find(|of| of.operation == now.operation)
                .map_or(0, |of| of.count)
        };
        let rates = report.operations.iter();
        self.rates = rates
            .map(|now| rate(before(now), now.count, passed))
            .collect();
        self.report = report;
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let shown = self.report.operations.len() as u16 + 3;
        let [head, chart, sums, operations, open, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(6),
            Constraint::Length(3),
            Constraint::Length(shown),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_head(frame, head);
        self.draw_chart(frame, chart);
        self.draw_sums(frame, sums);
        self.draw_operations(frame, operations);
        self.draw_open_files(frame, open);
        let keys = Line::styled("q quits", Style::new().fg(Color::DarkGray));
        frame.render_widget(keys, foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let StatsReport {
            mount_point,
            pid,
            session,
            ..
        } = &self.report;
        let text = format!(
            "{}  process {pid}  session {session}",
            mount_point.to_string_lossy().escape_debug()
        );
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Line::styled(text, bold), area);
    }

    fn draw_chart(&self, frame: &mut Frame<'_>, area: Rect) {
        let now = self.read.front().copied().unwrap_or_default();
        let title = format!(
            "read {}/s, written {}/s, fetched {}/s",
            bytes(now),
            bytes(self.written),
            bytes(self.fetched)
        );
        // The newest at the right edge.
        let width = usize::from(area.width.saturating_sub(2));
        let mut shown: Vec<u64> = self.read.iter().take(width).copied().collect();
        shown.resize(width, 0);
        shown.reverse();
        let chart = Sparkline::default()
            .block(bordered(title))
            .style(Style::new().fg(Color::Cyan))
            .data(shown);
        frame.render_widget(chart, area);
    }

    fn draw_sums(&self, frame: &mut Frame<'_>, area: Rect) {
        let StatsReport {
            bytes: sums,
            requests,
            fetches,
            ..
        } = &self.report;
        let requested: u64 = requests.made.values().sum();
        let lines = vec![
            Line::from(format!(
                "since the mount: read {}, written {}; from memory {}, disk cache {}, store {}",
                bytes(sums.read),
                bytes(sums.written),
                bytes(sums.from_memory),
                bytes(sums.from_disk),
                bytes(sums.from_store)
            )),
            Line::from(format!(
                "{}, {}; fetches: {} under way, {} waiting",
                count(requested, "request"),
                count(requests.retries, "retry"),
                fetches.in_flight,
                fetches.waiting
            )),
        ];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_operations(&self, frame: &mut Frame<'_>, area: Rect) {
        let of = self.report.operations.iter().zip(&self.rates);
        let rows = of.map(|(of, rate)| {
            let failed: u64 = of.failed.values().sum();
            let style = if failed > 0 {
                Style::new().fg(Color::Red)
            } else {
                Style::new()
            };
            Row::new([
                Cell::from(of.operation.clone()),
                Cell::from(HumanCount(*rate).to_string()),
                Cell::from(HumanCount(of.count).to_string()),
                Cell::from(HumanCount(failed).to_string()).style(style),
                Cell::from(time(of.took.p50_us)),
                Cell::from(time(of.took.p99_us)),
                Cell::from(time(of.took.max_us)),
            ])
        });
        let widths = [12, 10, 12, 8, 9, 9, 9].map(Constraint::Length);
        let head = [
            "operation",
            "a second",
            "in all",
            "failed",
            "p50",
            "p99",
            "max",
        ];
        let head = Row::new(head).style(Style::new().add_modifier(Modifier::BOLD));
        let table = Table::new(rows, widths).header(head);
        frame.render_widget(table.block(bordered("operations".to_owned())), area);
    }

    fn draw_open_files(&self, frame: &mut Frame<'_>, area: Rect) {
        let title = format!("open: {}", count(self.report.open_file_count, "file"));
        let files = self.report.open_files.iter().map(open_file);
        frame.render_widget(List::new(files).block(bordered(title)), area);
    }
}

fn bordered(title: String) -> Block<'static> {
    Block::new().borders(Borders::ALL).title(title)
}

/// How many a second.
fn rate(before: u64, now: u64, passed: Duration) -> u64 {
    let more = now.saturating_sub(before) as f64;
    (more / passed.as_secs_f64().max(0.001)) as u64
}
