import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;

/**
 * A MongoDB-wire server over the file FILE. `Main FILE` takes a free loopback port, which it prints, and ends when its
 * standard input does; `Main FILE HOST PORT` serves until it is told to stop.
 */
public class Main {
    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(new H2Backend(args[0]).version(ServerVersion.MONGO_5_0));
        if (args.length > 1) {
            // What is in memory reaches the file only by an orderly end.
            Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
            server.bind(args[1], Integer.parseInt(args[2]));
            return;
        }
        server.bind("127.0.0.1", 0);
        System.out.println(server.getLocalAddress().getPort());
        while (System.in.read() >= 0) { }
        server.shutdownNow();
        System.exit(0);
    }
}
