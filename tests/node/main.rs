//! A real node: kubelet, containerd, Helm and the chart, with the stand-in where CoreWeave is.
//!
//! One cluster for all scenarios, one after the other, in this order. Needs root and what
//! `tests/tools/fetch.sh` installs; `make test` runs it.
//!
//! ```text
//! cargo test -p tests --test node [-- NAME…]    those whose name contains one of these
//! cargo test -p tests --test node -- --figures  how long things take and how much, instead of those
//! cargo test -p tests --test node -- --shell    a shell beside a node with the chart on it
//! ```

#![cfg(test)]
#![expect(clippy::print_stdout, reason = "what happened is what it prints")]

mod agents;
mod csi;
mod csi_life;
mod delivery;
mod figures;
mod held;
mod isolation;
mod lifecycle;
mod reattach;
mod reboot;
mod survival;
mod tutorial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, ensure};
use tests::cluster::{Cluster, Entered, Place, enter};
use tokio::time::Instant;

/// What must hold on a real node, in one sentence.
struct Scenario {
    name: &'static str,
    run: fn(&Cluster) -> anyhow::Result<()>,
}

/// Names a function with the module that it is in.
macro_rules! scenarios {
    ($($module:ident::$function:ident,)*) => {
        [$(Scenario {
            name: concat!(stringify!($module), "::", stringify!($function)),
            run: $module::$function,
        },)*]
    };
}

const SCENARIOS: &[Scenario] = &scenarios![
    tutorial::a_user_who_follows_the_tutorial_is_led_from_access_denied_to_the_list_of_buckets,
    isolation::an_agent_holds_no_privilege,
    isolation::a_token_of_one_pod_is_refused_in_another,
    isolation::a_pod_reaches_nothing_of_the_node_but_what_enrols_it,
    lifecycle::pods_that_come_and_go_leave_nothing_on_their_node,
    lifecycle::a_container_that_is_started_anew_keeps_its_credentials,
    lifecycle::a_pod_with_a_new_sandbox_enrols_again,
    lifecycle::every_container_of_a_pod_gets_the_same_keys,
    lifecycle::a_job_that_lives_a_second_has_credentials,
    delivery::a_pod_is_served_on_the_loopback_of_either_protocol,
    delivery::a_client_that_dials_the_shared_socket_gets_the_keys_of_its_token_on_this_node,
    delivery::a_relay_serves_its_pod_and_does_not_keep_it_from_ending,
    csi::a_pod_of_a_restricted_namespace_lists_its_buckets,
    csi::pods_wait_for_credentials_and_their_events_say_why,
    csi::a_volume_serves_its_own_pod_and_no_other,
    csi_life::pods_start_by_themselves_when_their_nodes_agent_comes,
    csi_life::pods_start_whenever_the_driver_is_killed,
    csi_life::sockets_outlive_kubelet_driver_agent_and_at_last_the_driver_for_good,
    lifecycle::a_run_of_a_cron_job_has_credentials,
    lifecycle::a_drained_node_that_is_let_in_again_has_its_pods_back,
    isolation::a_pod_can_take_no_port_and_learns_of_no_other_pod,
    delivery::pods_in_the_nodes_network_share_a_listener_and_no_key,
    survival::no_request_fails_whatever_is_restarted_or_away,
    reboot::pods_come_back_by_themselves_when_their_node_reboots,
    reattach::pods_that_lost_their_listeners_have_new_ones_without_a_restart,
];

/// What is measured and not required, with `--figures` alone.
const FIGURES: &[Scenario] = &scenarios![
    figures::pods_have_credentials_soon_after_they_are_scheduled,
    figures::a_full_node_of_csi_pods_leaves_nothing,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let names: Vec<&str> = names(&arguments);
    let all = if flag("--figures") {
        FIGURES
    } else {
        SCENARIOS
    };
    let chosen: Vec<&Scenario> = all
        .iter()
        .filter(|scenario| {
            names.is_empty() || names.iter().any(|name| scenario.name.contains(name))
        })
        .collect();
    if flag("--list") {
        for scenario in &chosen {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    let result = match enter() {
        Ok(Entered::Ended(code)) => return code,
        Ok(Entered::Inside(place)) if flag("--shell") => shell(place),
        Ok(Entered::Inside(place)) => run(place, &chosen, all.len()),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments that are no flags; the harness of other tests has some that take a value.
fn names(arguments: &[String]) -> Vec<&str> {
    let mut names = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "--test-threads" | "--format" | "--color" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            name => names.push(name),
        }
    }
    names
}

/// Runs the scenarios on one node, and prints what came of them as other tests do.
fn run(place: Place, scenarios: &[&Scenario], all: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("\nrunning {} tests", scenarios.len());
    let cluster = Cluster::start(place)?;
    println!(
        "the node is ready after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    cluster.register_issuer()?;
    if let Err(error) = cluster.install() {
        println!("{}", told(&cluster));
        return Err(error);
    }
    println!(
        "the chart is installed after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let (mut failures, mut report) = (Vec::new(), None);
    for scenario in scenarios {
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&cluster)));
        let result = result.unwrap_or_else(|panic| Err(anyhow!("panicked: {}", said(&*panic))));
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("test {} ... ok ({seconds:.1} s)", scenario.name),
            Err(error) => {
                println!("test {} ... FAILED ({seconds:.1} s)", scenario.name);
                failures.push((scenario.name, error));
                report.get_or_insert_with(|| told(&cluster));
                // Those that follow count Pods and listeners.
                if let Err(error) = cluster.end_workloads() {
                    println!("    its Pods are left: {error:#}");
                }
            }
        }
    }
    if let Some(report) = report {
        println!("\nfailures; at the first of them {report}");
    }
    for (name, error) in &failures {
        println!("\n---- {name} ----\n{error:#}");
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        scenarios.len() - failures.len(),
        failures.len(),
        all - scenarios.len(),
        started.elapsed().as_secs_f64()
    );
    ensure!(failures.is_empty(), "{} scenarios failed", failures.len());
    Ok(())
}

/// Has the cluster write down what it knows, and says where.
fn told(cluster: &Cluster) -> String {
    let report = cluster.write_report();
    format!(
        "the cluster's own report, beside the logs of every part: {}",
        report.display()
    )
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Keeps the node up for as long as a shell on it runs.
fn shell(place: Place) -> anyhow::Result<()> {
    println!("bringing up a node, some 20 seconds");
    let cluster = Cluster::start(place)?;
    cluster.register_issuer()?;
    if let Err(error) = cluster.install() {
        // Somebody wants to look at it all the same.
        println!("the chart is not rolled out: {error:#}");
    }
    let namespace = "training";
    let control_plane = cluster.control_plane();
    control_plane
        .apply(&serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))?
        .accepted()?;
    cluster.service_account(namespace, "trainer")?;
    cluster.until_injected(namespace, "trainer")?;
    println!(
        "the chart is installed; Pods of the ServiceAccount `trainer` in the namespace `training` may do everything:\n\n\
         \x20   kubectl -n training run try --rm -it --restart Never --image amazon/aws-cli --image-pull-policy Never \\\n\
         \x20       --overrides '{{\"spec\":{{\"serviceAccountName\":\"trainer\"}}}}' -- sh\n\
         \x20   aws --endpoint-url http://cwlota.com s3api list-buckets\n\n\
         kubectl, helm and ctr are on the path; the node ends with the shell; logs: {}\n",
        control_plane.directory().display()
    );
    let mut shell = cluster.shell()?;
    let status = control_plane.network().call(move || shell.status());
    status.context("failed to start a shell")?;
    Ok(())
}
