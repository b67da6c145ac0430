package suite;

import java.io.DataInputStream;
import java.io.IOException;
import java.net.Socket;
import java.net.URI;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.apache.pulsar.common.api.proto.BaseCommand;
import org.apache.pulsar.common.api.proto.MessageMetadata;
import org.apache.pulsar.common.protocol.Commands;
import org.apache.pulsar.shade.io.netty.buffer.ByteBuf;
import org.apache.pulsar.shade.io.netty.buffer.Unpooled;

/** A connection without a client: frames of the test's making, for what the client never sends or never shows. */
final class Raw implements AutoCloseable {
    private final Socket socket;
    private final DataInputStream in;

    Raw() throws IOException {
        URI url = URI.create(Broker.SERVICE_URL);
        socket = new Socket(url.getHost(), url.getPort());
        socket.setSoTimeout((int) Await.PATIENCE.toMillis());
        in = new DataInputStream(socket.getInputStream());
    }

    void send(ByteBuf frame) throws IOException {
        byte[] bytes = new byte[frame.readableBytes()];
        frame.readBytes(bytes);
        frame.release();
        socket.getOutputStream().write(bytes);
    }

    void ping() throws IOException {
        BaseCommand command = new BaseCommand().setType(BaseCommand.Type.PING);
        command.setPing();
        send(Commands.serializeWithSize(command));
    }

    /** The next command; the broker's own pings are answered on the way. */
    BaseCommand next() throws IOException {
        while (true) {
            byte[] frame = in.readNBytes(in.readInt());
            int size = ByteBuffer.wrap(frame).getInt();
            BaseCommand command = new BaseCommand();
            command.parseFrom(Arrays.copyOfRange(frame, Integer.BYTES, Integer.BYTES + size));
            if (command.getType() != BaseCommand.Type.PING) {
                return command;
            }
            send(Commands.newPong());
        }
    }

    /** Connects and returns what the broker says of itself. */
    BaseCommand connect(int protocolVersion) throws IOException {
        send(Commands.newConnect("none", "", protocolVersion, "raw", null, null, null, null));
        return next();
    }

    /** A message of the producer `p`; a damaged one differs from its checksum. */
    static ByteBuf message(long producerId, long sequenceId, String text, boolean damaged) {
        var metadata = new MessageMetadata().setProducerName("p").setSequenceId(sequenceId).setPublishTime(1);
        ByteBuf payload = Unpooled.copiedBuffer(Text.bytes(text));
        var pair = Commands.newSend(producerId, sequenceId, 1, Commands.ChecksumType.Crc32c, metadata, payload);
        ByteBuf frame = Unpooled.copiedBuffer(pair.getFirst(), pair.getSecond());
        if (damaged) {
            int last = frame.writerIndex() - 1;
            frame.setByte(last, frame.getByte(last) ^ 1);
        }
        return frame;
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
