//! Values that make no sense are refused in words that help, by both versions of Helm.

use super::rendered::{BOTH, LEAST, template};

const GOOD: &[&str] = &["--set", LEAST];

fn refused(values: &[&str], words: &str) {
    for version in BOTH {
        let mut all = GOOD.to_vec();
        all.extend(values);
        let complaint = template(version, &all).unwrap_err().to_string();
        assert!(
            complaint.contains(words),
            "{version:?} {values:?}:\n{complaint}"
        );
    }
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    for version in BOTH {
        let complaint = template(version, &[]).unwrap_err().to_string();
        for words in [
            "config.orgID is missing: the ID of your CoreWeave organisation",
            "config.region is missing: the availability zone of your buckets",
        ] {
            assert!(complaint.contains(words), "{version:?}:\n{complaint}");
        }
    }
}

#[test]
fn a_name_that_does_not_exist_is_refused_by_its_name() {
    for (values, name) in [
        ("config.orgId=x", "orgId"),
        ("conifg.orgID=x", "conifg"),
        ("agent.ressources.limits.cpu=1", "ressources"),
        ("injector.certificate.managed=true", "managed"),
        ("image.registry=x", "registry"),
        ("agent.tolerations[0].keys=x", "keys"),
    ] {
        refused(&["--set", values], name);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one entry for each value")]
fn a_value_that_makes_no_sense_is_refused_in_a_sentence() {
    for (value, words) in [
        ("config.orgID=", "config.orgID is missing"),
        (
            "config.orgID=12345678",
            "config.orgID is a number, and YAML may round it: put it in quotes",
        ),
        (
            "config.orgID=a/b",
            "config.orgID is `a/b`: an organisation's ID has letters",
        ),
        ("config.region=", "config.region is missing"),
        (
            "config.region=us_east",
            "config.region is `us_east`: an availability zone has letters, digits and `-`",
        ),
        (
            "config.credentialDuration=6",
            "config.credentialDuration is `6`: must be a duration with its unit",
        ),
        (
            "config.credentialDuration=six",
            "config.credentialDuration is `six`: must be a duration",
        ),
        (
            "config.credentialDuration=13h",
            "config.credentialDuration is `13h`: must be 15m to 12h",
        ),
        (
            "config.credentialDuration=10min",
            "config.credentialDuration is `10min`: must be 15m to 12h",
        ),
        (
            "injector.tokenExpiration=1d1h",
            "injector.tokenExpiration is `1d1h`: must be 10m to 24h",
        ),
        (
            "injector.certificate.caLifetime=179d",
            "injector.certificate.caLifetime must be at least twice",
        ),
        (
            "prometheusRule.enabled=true,config.credentialDuration=2h",
            "alerts.expirySeconds is 3600: with config.credentialDuration `2h` every key comes to \
             that before its renewal, so the alert would fire for ever; at most 2880",
        ),
        (
            "prometheusRule.enabled=true,injector.certificate.lifetime=14d",
            "alerts.certificateSeconds is 604800: with injector.certificate.lifetime `14d` every \
             certificate comes to that before its renewal, so the alert would fire again and again; \
             at most 403200",
        ),
        (
            "injector.tokenExpiration=1.5h",
            "injector.tokenExpiration is `1.5h`: must be a duration",
        ),
        (
            "injector.certificate.lifetime=90",
            "injector.certificate.lifetime is `90`: must be a duration",
        ),
        (
            "agent.maxSurge=0",
            "agent.maxSurge is `0`: must be a number of nodes or a share of them",
        ),
        (
            "agent.drainTimeout=1m",
            "agent.drainTimeout is `1m`: must be seconds, such as 10s",
        ),
        (
            "injector.shutdownDelay=8",
            "injector.shutdownDelay is `8`: must be seconds, such as 10s",
        ),
        (
            "config.attributes.cost=1234567",
            "config.attributes.cost is a number, and YAML may write it in another way",
        ),
        (
            "config.port=80",
            "config.port is `80`: must be a port from 1024 to 65535",
        ),
        (
            "config.port=70000",
            "config.port is `70000`: must be a port",
        ),
        (
            "injector.adminPort=8443",
            "injector.port and injector.adminPort are both 8443",
        ),
        (
            "injector.enroll.cpu=lots",
            "injector.enroll.cpu is `lots`: must be a Kubernetes quantity",
        ),
        (
            "injector.enroll.memory=32MB",
            "injector.enroll.memory is `32MB`: must be a Kubernetes quantity",
        ),
        (
            "image.digest=sha256:abc",
            "image.digest is `sha256:abc`: must be sha256: and 64",
        ),
        (
            "image.repository=Caios:1",
            "image.repository is `Caios:1`: must be a name without tag",
        ),
        (
            "image.repository=registry.example:5000/caios:1",
            "image.repository is `registry.example:5000/caios:1`: must be a name without tag",
        ),
        (
            "config.s3Endpoint=cwlota.com",
            "config.s3Endpoint is `cwlota.com`: must be a URL",
        ),
        (
            "proxy.https=proxy:3128",
            "proxy.https is `proxy:3128`: must be a URL",
        ),
        (
            "config.nodeDirectory=run/caios",
            "config.nodeDirectory is `run/caios`: must be an absolute path",
        ),
        (
            "csi.kubeletDirectory=/var/lib/kubelet/",
            "csi.kubeletDirectory is `/var/lib/kubelet/`: must be an absolute path",
        ),
        (
            "csi.volume=csi",
            "csi.volume is `csi`, but csi.enabled is false: enable the driver",
        ),
        (
            "reattach.networkNamespaces=netns",
            "reattach.networkNamespaces is `netns`: must be an absolute path",
        ),
        (
            "reattach.enabled=true,agent.watchPods=false",
            "reattach.enabled needs agent.watchPods",
        ),
        (
            "config.additionalAudiences={a}",
            "config.additionalAudiences needs config.audience or config.issuer",
        ),
        (
            "config.keysFrom=issuer",
            "config.issuer is missing: with config.keysFrom `issuer` nothing else names it",
        ),
        (
            "config.jwksURL=https://i/keys",
            "config.jwksURL is given, but config.keysFrom is `api-server`",
        ),
        (
            "injector.certificate.mode=secret",
            "injector.certificate.secret.name is missing",
        ),
        (
            "injector.certificate.mode=secret",
            "injector.certificate.secret.caBundle is no PEM",
        ),
        (
            "injector.certificate.certManager.duration=90d",
            "cert-manager knows h, m and s alone",
        ),
        (
            "helmTest.enabled=true,helmTest.namespace=research",
            "helmTest.namespace and helmTest.serviceAccount are needed for the test",
        ),
        (
            "helmTest.enabled=true,helmTest.namespace=pod-identity-webhook,helmTest.serviceAccount=a",
            "helmTest.namespace is `pod-identity-webhook`, which the injector leaves alone",
        ),
        (
            "helmTest.endpoint=cwlota.com",
            "helmTest.endpoint is `cwlota.com`: must be a URL",
        ),
        ("injector.relayRuntimeClasses=null", "must not be empty"),
        ("caBundle.configMap=a,caBundle.secret=b", "choose one"),
    ] {
        refused(&["--set", value], words);
    }
    refused(
        &["--namespace", "kube-system"],
        "the namespace is kube-system: install into one of its own",
    );
    refused(
        &["--kube-version", "1.29.4"],
        "requires kubeVersion: >=1.30.0-0",
    );
}

#[test]
fn a_choice_that_does_not_exist_is_refused_with_the_choices() {
    for (value, words) in [
        ("injector.certificate.mode=self", "cert-manager"),
        ("injector.delivery=sidecar", "handoff"),
        ("csi.volume=emptyDir", "hostPath"),
        ("config.keysFrom=file", "api-server"),
        ("config.enrolmentMode=fast", "reown"),
        ("image.pullPolicy=always", "IfNotPresent"),
    ] {
        refused(&["--set", value], words);
    }
}

#[test]
fn values_of_a_parent_chart_are_let_through() {
    for version in BOTH {
        template(
            version,
            &["--set", LEAST, "--set", "global.anything.at=all"],
        )
        .unwrap();
    }
}
