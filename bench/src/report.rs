//! What was measured, and which goal it meets.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::plan::Plan;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Goal {
    /// Whether `value` meets it.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// One figure, as often as it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In what: `×`, `µs`, `MB`, or empty for a count.
    pub unit: &'static str,
    /// One value of each round.
    pub values: Vec<f64>,
    /// What it should be, where there is a goal.
    pub goal: Option<Goal>,
}

impl Figure {
    /// A figure without a goal.
    pub fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            values,
            goal: None,
        }
    }

    /// The same with a goal for its median.
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// The value that half of the rounds do not exceed; not a number without a round.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
            .get(sorted.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Whether it meets its goal; `None` without one.
    pub fn meets_goal(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met_by(self.median()))
    }

    fn row(&self) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let spread = match self.values.as_slice() {
            [] | [_] => String::new(),
            _ => format!("{} – {}", shown(least), shown(most)),
        };
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(bound)) => format!("≤ {}", shown(bound)),
            Some(Goal::AtLeast(bound)) => format!("≥ {}", shown(bound)),
        };
        let met = match self.meets_goal() {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        let value = shown(self.median());
        format!(
            "| {} | {value} {} | {spread} | {goal} | {met} |",
            self.name, self.unit
        )
    }
}

/// Three digits, however large.
fn shown(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The figures of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// What was done, in one sentence.
    pub title: String,
    /// What came of it.
    pub figures: Vec<Figure>,
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// By what command.
    pub command: String,
    /// How much.
    pub plan: Plan,
    /// What came of it.
    pub sections: Vec<Section>,
}

impl Report {
    /// As text for people: one table for each case.
    pub fn text(&self) -> String {
        let Machine {
            cores,
            processor,
            kernel,
            commit,
            load,
        } = &self.machine;
        let mut text = format!(
            "`{}` on {cores} × {processor}, Linux {kernel}, commit {commit}, load average {load} before.\n\
             Medians of {} rounds; the spread is the least and the most of them.\n",
            self.command, self.plan.rounds
        );
        for Section { title, figures } in &self.sections {
            let _ = write!(
                text,
                "\n{title}\n\n| figure | median | spread | goal | met |\n| --- | ---: | --- | --- | --- |\n"
            );
            for figure in figures {
                let _ = writeln!(text, "{}", figure.row());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_median_and_a_row_says_whether_it_is_met() {
        let figure = Figure::new("rate", "×", vec![0.9, 0.5, 0.86]).goal(Goal::AtLeast(0.85));
        assert_eq!(figure.meets_goal(), Some(true));
        assert_eq!(
            figure.row(),
            "| rate | 0.860 × | 0.500 – 0.900 | ≥ 0.850 | yes |"
        );
        let figure = Figure::new("exchanges", "", vec![2.0]).goal(Goal::AtMost(1.0));
        assert_eq!(figure.row(), "| exchanges | 2.00  |  | ≤ 1.00 | **no** |");
    }

    #[test]
    fn nothing_measured_meets_no_goal() {
        let figure = Figure::new("rate", "×", Vec::new()).goal(Goal::AtLeast(0.85));
        assert_eq!(figure.meets_goal(), Some(false));
    }
}
