import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.services.s3.S3Client;

/** The AWS SDK for Java v2 as a Pod would use it: default credential chain, one GET (see ../README.md). */
public final class Client {
    private Client() {}

    public static void main(String[] arguments) {
        boolean virtualHosts = "virtual".equals(System.getenv("S3_ADDRESSING"));
        int wanted = Integer.parseInt(System.getenv().getOrDefault("CLIENT_CALLS", "1"));
        int calls = 0;
        int bytes = 0;
        double first = 0;
        String error = null;
        long start = System.nanoTime();
        try (S3Client s3 = S3Client.builder().forcePathStyle(!virtualHosts).build()) {
            while (calls < wanted) {
                bytes = s3.getObjectAsBytes(
                                get -> get.bucket(System.getenv("S3_BUCKET")).key(System.getenv("S3_KEY")))
                        .asByteArrayUnsafe()
                        .length;
                calls++;
                first = calls == 1 ? millisecondsSince(start) : first;
            }
        } catch (RuntimeException failure) {
            error = failure.toString();
        }
        double elapsed = millisecondsSince(start);
        System.out.println("{\"client\": \"aws-sdk-java-v2\", \"version\": " + quoted(VersionInfo.SDK_VERSION)
                + ", \"ok\": " + (error == null) + ", \"calls\": " + calls + ", \"bytes\": " + bytes
                + ", \"first_ms\": " + first + ", \"elapsed_ms\": " + elapsed
                + (error == null ? "" : ", \"error\": " + quoted(error)) + "}");
        System.exit(error == null ? 0 : 1);
    }

    private static double millisecondsSince(long start) {
        return (System.nanoTime() - start) / 100_000 / 10.0;
    }

    /** A JSON string; control characters, which exception messages hold, become blanks. */
    static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ") + '"';
    }
}
