import java.net.URI;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.services.s3.S3Client;

/**
 * The AWS SDK for Java v2 as a process that has just started sees it, again and again: each time a new client, credentials
 * fetched anew, one S3 call. It counts as tests/node/clients/counts.py does.
 */
public final class Load {
    /** Between two lines. */
    private static final long LINE_INTERVAL_MS = 200;

    private Load() {}

    public static void main(String[] arguments) throws InterruptedException {
        long interval = Long.parseLong(System.getenv("LOAD_INTERVAL_MS"));
        Map<String, Integer> errors = new TreeMap<>();
        Set<String> keys = new TreeSet<>();
        long asked = 0;
        long failed = 0;
        long printed = System.currentTimeMillis();
        long due = printed;
        while (true) {
            try {
                keys.add(ask());
            } catch (RuntimeException failure) {
                failed++;
                errors.merge(failure.toString(), 1, Integer::sum);
            }
            asked++;
            long now = System.currentTimeMillis();
            if (now - printed >= LINE_INTERVAL_MS) {
                printed = now;
                System.out.println("{\"at\": " + now / 1000.0 + ", \"asked\": " + asked + ", \"failed\": " + failed
                        + ", \"errors\": " + object(errors) + ", \"keys\": " + list(keys) + "}");
            }
            due = Math.max(due + interval, now);
            Thread.sleep(Math.max(0, due - System.currentTimeMillis()));
        }
    }

    /** Reads the object; the access key that it was signed with. */
    private static String ask() {
        try (DefaultCredentialsProvider credentials = DefaultCredentialsProvider.builder().build();
                S3Client s3 = S3Client.builder()
                        .credentialsProvider(credentials)
                        .endpointOverride(URI.create("http://cwlota.com"))
                        .build()) {
            s3.getObjectAsBytes(get -> get.bucket("data").key("object"));
            return credentials.resolveCredentials().accessKeyId();
        }
    }

    private static String object(Map<String, Integer> counts) {
        return counts.entrySet().stream()
                .map(entry -> Client.quoted(entry.getKey()) + ": " + entry.getValue())
                .collect(Collectors.joining(", ", "{", "}"));
    }

    private static String list(Set<String> texts) {
        return texts.stream().map(Client::quoted).collect(Collectors.joining(", ", "[", "]"));
    }
}
