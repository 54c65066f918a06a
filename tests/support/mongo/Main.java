import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;

/** A MongoDB-wire server on a free loopback port, which it prints; it ends when its standard input does. */
public class Main {
    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(new H2Backend(args[0]).version(ServerVersion.MONGO_5_0));
        server.bind("127.0.0.1", 0);
        System.out.println(server.getLocalAddress().getPort());
        while (System.in.read() >= 0) { }
        server.shutdownNow();
        System.exit(0);
    }
}
