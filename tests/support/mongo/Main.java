import de.bwaldvogel.mongo.MongoBackend;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;

/**
 * A MongoDB-wire server over the file FILE, or in memory where FILE is `:memory:`. `Main FILE` takes a free loopback port, which it prints, and ends when its
 * standard input does; `Main FILE HOST PORT` serves until it is told to stop.
 */
public class Main {
    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(backend(args[0]));
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

    private static MongoBackend backend(String file) {
        boolean inMemory = file.equals(":memory:");
        AbstractMongoBackend backend = inMemory ? Indexed.inMemory() : Indexed.inFile(file);
        return backend.version(ServerVersion.MONGO_5_0);
    }
}
