import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * reviews, which knows what BookInfo's reviewers say, and asks ratings for their stars.
 *
 * <pre>java Reviews.java 9080 [0.0.0.0]</pre>
 *
 * Nothing but the JDK, and nothing of a mesh: ratings is called by its name, and where that leads is up to
 * the proxy that the system properties name, or to whoever captures the calls.
 */
public final class Reviews {
    private static final List<String> FORWARDED = List.of("x-request-id", "x-ot-span-context", "x-datadog-trace-id",
            "x-datadog-parent-id", "x-datadog-sampling-priority", "traceparent", "tracestate", "x-cloud-trace-context",
            "grpc-trace-bin", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3",
            "sw8", "x-envoy-expected-rq-timeout-ms", "end-user", "user-agent", "cookie", "authorization", "jwt");

    private static final String[][] REVIEWS = {
        {"Reviewer1", "I laughed until the twins were told apart. Slapstick at its best, and over in one evening."},
        {"Reviewer2", "Great fun, and lighter than the later plays: come for the confusion, not for the depth."},
    };

    private static final boolean STARS = env("ENABLE_RATINGS", "false").equals("true");
    private static final String COLOR = env("STAR_COLOR", "black");
    private static final int TIMEOUT = COLOR.equals("black") ? 10_000 : 2_500; // milliseconds
    private static final int LARGEST_ANSWER = 1 << 20;
    private static final String POD = env("HOSTNAME", "reviews-" + env("SERVICE_VERSION", "v2"));
    private static final String NAME = POD + " (Java " + System.getProperty("java.version") + ")";
    private static final Pattern PATH = Pattern.compile("/reviews/([^/]+)");

    private static final AtomicInteger busy = new AtomicInteger();

    public static void main(String[] args) throws IOException {
        System.setProperty("sun.net.httpserver.nodelay", "true");
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 9080;
        String address = args.length > 1 ? args[1] : "127.0.0.1";
        HttpServer server = HttpServer.create(new InetSocketAddress(address, port), 128);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Reviews::handle);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(server)));
    }

    /** Waits for the requests under way; an end that was asked for is no failure, so that the code is 0. */
    private static void end(HttpServer server) {
        try {
            for (int i = 0; i < 500 && busy.get() > 0; i++) {
                Thread.sleep(10);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        server.stop(0);
        Runtime.getRuntime().halt(0);
    }

    private static void handle(HttpExchange exchange) throws IOException {
        busy.incrementAndGet();
        try (exchange) {
            answer(exchange);
        } finally {
            busy.decrementAndGet();
        }
    }

    private static void answer(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getRawPath();
        Matcher at = PATH.matcher(path);
        boolean health = path.equals("/health");
        String method = exchange.getRequestMethod();
        if (!health && !at.matches()) {
            reply(exchange, 404, error("not found"), "");
        } else if (!method.equals("GET") && !method.equals("HEAD")) {
            exchange.getResponseHeaders().set("Allow", "GET");
            reply(exchange, 405, error("method not allowed"), "");
        } else if (health) {
            reply(exchange, 200, "{\"status\":\"Reviews is healthy\"}", "");
        } else if (!at.group(1).matches("[0-9]{1,9}")) {
            reply(exchange, 400, error("please provide numeric product ID"), "");
        } else {
            reviews(exchange, at.group(1));
        }
    }

    private static void reviews(HttpExchange exchange, String id) throws IOException {
        Answer ratings = STARS ? ratings(exchange, id) : null;
        StringBuilder out = new StringBuilder();
        out.append("{\"id\":").append(quote(id)).append(",\"podname\":").append(quote(POD));
        out.append(",\"clustername\":").append(quote(env("CLUSTER_NAME", "null"))).append(",\"reviews\":[");
        for (int i = 0; i < REVIEWS.length; i++) {
            String reviewer = REVIEWS[i][0];
            out.append(i > 0 ? "," : "").append("{\"reviewer\":").append(quote(reviewer));
            out.append(",\"text\":").append(quote(REVIEWS[i][1]));
            if (ratings != null) {
                out.append(",\"rating\":").append(rating(ratings, reviewer));
            }
            out.append("}");
        }
        reply(exchange, 200, out.append("]}").toString(), ratings == null ? "" : ratings.served);
    }

    private static String rating(Answer ratings, String reviewer) {
        Matcher stars = Pattern.compile("\"" + reviewer + "\"\\s*:\\s*(-?[0-9]{1,9})\\s*[,}]").matcher(ratings.body);
        if (ratings.status != 200 || !stars.find()) {
            return error("Ratings service is currently unavailable");
        }
        return "{\"stars\":" + Integer.parseInt(stars.group(1)) + ",\"color\":" + quote(COLOR) + "}";
    }

    private record Answer(int status, String body, String served) {}

    /** Asks for the ratings; status 0 where there is no answer. */
    private static Answer ratings(HttpExchange exchange, String id) {
        String domain = env("SERVICES_DOMAIN", "");
        String host = env("RATINGS_HOSTNAME", "ratings") + (domain.isEmpty() ? "" : "." + domain);
        try {
            URL url = new URL("http://" + host + ":" + env("RATINGS_SERVICE_PORT", "9080") + "/ratings/" + id);
            HttpURLConnection call = (HttpURLConnection) url.openConnection();
            call.setConnectTimeout(TIMEOUT);
            call.setReadTimeout(TIMEOUT);
            for (String name : FORWARDED) {
                List<String> values = exchange.getRequestHeaders().get(name);
                if (values != null) {
                    call.setRequestProperty(name, String.join(", ", values));
                }
            }
            int status = call.getResponseCode();
            String served = call.getHeaderField("x-served-by");
            InputStream in = status < 400 ? call.getInputStream() : call.getErrorStream();
            String body = "";
            if (in != null) {
                try (in) {
                    body = new String(in.readNBytes(LARGEST_ANSWER), StandardCharsets.UTF_8);
                }
            }
            return new Answer(status, body, served == null ? "" : served);
        } catch (IOException e) {
            return new Answer(0, "", "");
        }
    }

    private static void reply(HttpExchange exchange, int status, String json, String alsoServed) throws IOException {
        byte[] body = json.getBytes(StandardCharsets.UTF_8);
        exchange.getRequestBody().readNBytes(64 << 10); // what is left there would end the connection
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.getResponseHeaders().set("X-Served-By", alsoServed.isEmpty() ? NAME : NAME + ", " + alsoServed);
        boolean head = exchange.getRequestMethod().equals("HEAD");
        exchange.sendResponseHeaders(status, head ? -1 : body.length);
        if (!head) {
            try (OutputStream out = exchange.getResponseBody()) {
                out.write(body);
            }
        }
        log(exchange, status);
    }

    private static void log(HttpExchange exchange, int status) {
        String target = exchange.getRequestURI().toString();
        if (!target.equals("/health")) {
            System.out.println(exchange.getRequestMethod() + " " + target + " " + status
                    + " x-request-id=" + header(exchange, "x-request-id") + " traceparent=" + header(exchange, "traceparent"));
        }
    }

    private static String header(HttpExchange exchange, String name) {
        String value = exchange.getRequestHeaders().getFirst(name);
        return value == null ? "" : value;
    }

    private static String error(String message) {
        return "{\"error\":" + quote(message) + "}";
    }

    private static String quote(String s) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static String env(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }
}
