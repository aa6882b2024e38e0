/* import_cases.h - the table of test_import.c: files of every benchmark, and
 * what becomes of them. */
#ifndef TESTS_IMPORT_CASES_H
#define TESTS_IMPORT_CASES_H

#include <stddef.h>

#define LETTER "\nAnswer with the option's letter from the given choices directly."
#define WORD "\nAnswer the question using a single word or phrase."

#define HEAD "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tl2-category\n"
/* 60 bytes that begin as a JPEG: more than 64 characters of base64. */
#define JPEG "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define ROW(index, answer, image) index "\tQ\t\ta\tb\t\t\t" answer "\tc\t" image "\tl\n"
/* Its name by its bytes. */
#define PICTURE "images/%s.jpg"

/* Files, and what becomes of them: samples, or a message. */
static const struct import_case {
    const char *task, *files[4][2], *pictures[4]; /* pictures: below --images, any bytes */
    int samples;
    struct {
        int sample;
        const char *key, *want; /* key: see value_of; want NULL: it is not there */
    } want[9];
    const char *says; /* NULL: it is imported */
} cases[] = {
    {.task = "ai2d",
     .files = {{"q.json",
                "{\"imageName\":\"0.png\",\"questions\":{\"What is "
                "A?\":{\"abcLabel\":true,\"answerTexts\":[\"leaf\",\"stem\",\"root\",\"bud\"],"
                "\"correctAnswer\":2,\"questionId\":\"0.png-1\"},\"Which?\":{\"abcLabel\":false,"
                "\"answerTexts\":[\"a\",\"b\"],\"correctAnswer\":0,\"questionId\":\"0.png-2\"}}}"}},
     .pictures = {"0.png"},
     .samples = 2,
     .want = {{0, "id", "ai2d/0.png-1"},
              {0, "ask", "<image>\nWhat is A?\nA. leaf\nB. stem\nC. root\nD. bud" LETTER},
              {0, "answer", "C"},
              {1, "answer", "A"}}},
    {.task = "ai2d",
     .files = {{"r.jsonl", "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"1\","
                           "\"image\":\"0.png\"}\n"}},
     .pictures = {"0.png"},
     .samples = 1,
     .want = {{0, "id", "ai2d/1"},
              {0, "ask", "<image>\nQ?\nA. a\nB. b" LETTER},
              {0, "answer", "B"}}},
    /* rows without ids are counted over all files */
    {.task = "ai2d",
     .files = {{"r.jsonl", "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"1\","
                           "\"image\":\"0.png\"}\n"},
               {"s.jsonl", "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"0\","
                           "\"image\":\"0.png\"}\n"}},
     .pictures = {"0.png"},
     .samples = 2,
     .want = {{1, "id", "ai2d/2"}}},
    {.task = "ai2d",
     .files = {{"r.jsonl", "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"2\","
                           "\"image\":\"0.png\"}\n"}},
     .says = "r.jsonl:1:1: the answer is option 2, of 2 (the first is 0)"},
    {.task = "ai2d",
     .files = {{"q.json",
                "{\"imageName\":\"0.png\",\"questions\":{\"What is "
                "A?\":{\"abcLabel\":true,\"answerTexts\":[\"leaf\",\"stem\",\"root\",\"bud\"],"
                "\"correctAnswer\":2,\"questionId\":\"0.png-1\"},\"Which?\":{\"abcLabel\":false,"
                "\"answerTexts\":[\"a\",\"b\"],\"correctAnswer\":0,\"questionId\":\"0.png-2\"}}}"},
               {"p.json",
                "{\"imageName\":\"0.png\",\"questions\":{\"What is "
                "A?\":{\"abcLabel\":true,\"answerTexts\":[\"leaf\",\"stem\",\"root\",\"bud\"],"
                "\"correctAnswer\":2,\"questionId\":\"0.png-1\"},\"Which?\":{\"abcLabel\":false,"
                "\"answerTexts\":[\"a\",\"b\"],\"correctAnswer\":0,\"questionId\":\"0.png-2\"}}}"}},
     .pictures = {"0.png"},
     .says = "p.json:1:48: question \"0.png-1\" is there twice, first at "},
    /* n2.jpg is not there: left out */
    {.task = "gqa",
     .files = {{"q.json", "{\"201\":{\"question\":\"Is it "
                          "red?\",\"imageId\":\"n1\",\"answer\":\"no\"},\"202\":{\"question\":"
                          "\"What?\",\"imageId\":\"n2\",\"answer\":\"x\"}}"}},
     .pictures = {"n1.jpg"},
     .samples = 1,
     .want = {{0, "id", "gqa/201"},
              {0, "ask", "<image>\nIs it red?" WORD},
              {0, "answer", "no"},
              {0, "image", "n1.jpg"},
              {0, "metric", "exact"}}},
    /* a row of the hub's, whose picture's path is whole */
    {.task = "gqa",
     .files = {{"r.jsonl", "{\"id\":\"3\",\"imageId\":\"n3\",\"question\":\"Q?\",\"answer\":\"a\","
                           "\"image\":\"1f\"}\n"}},
     .pictures = {"1f"},
     .samples = 1,
     .want = {{0, "id", "gqa/3"}, {0, "image", "1f"}}},
    {.task = "gqa",
     .files = {{"q.json",
                "{\"1\":{\"question\":\"Is it red?\",\"imageId\":\"n1\",\"answer\":\"no\"}}"}},
     .says = "q.json: no question is left: no picture is there, such as n1.jpg"},
    {.task = "gqa",
     .files = {{"q.json", "{\"1\":{\"question\":[1],\"imageId\":\"n\",\"answer\":\"a\"}}"}},
     .says = "q.json:1:6: \"question\" must be a string or a number"},
    {.task = "gqa",
     .files = {{"q.json", "{\"1\":7}"}},
     .says = "q.json:1:6: a question is an object"},
    {.task = "gqa",
     .files = {{"q.json", "{\"1\":{\"imageId\":\"n\",\"answer\":\"a\"}}"}},
     .says = "q.json:1:6: question \"1\" has no text"},
    {.task = "gqa",
     .files = {{"q.json", "{\"1\":{\"question\":\"Q\",\"answer\":\"a\"}}"}},
     .says = "q.json:1:6: question \"1\" names no picture"},
    {.task = "gqa",
     .files = {{"r.jsonl", "{\"question\":\"Q\",\"imageId\":\"n\",\"answer\":\"a\"}\n"}},
     .says = "r.jsonl:1:1: the question has no id"},
    {.task = "gqa",
     .files = {{"r.jsonl",
                "{\"id\":\"3\",\"question\":\"Q?\",\"answer\":\"a\",\"image\":\"../x\"}\n"}},
     .says = "r.jsonl:1:1: picture \"../x\": a path below --images is needed"},
    {.task = "gqa",
     .files = {{"r.jsonl",
                "{\"id\":\"3\",\"question\":\"Q?\",\"answer\":\"a\",\"image\":\"a/../../x\"}\n"}},
     .says = "picture \"a/../../x\": a path below"},
    {.task = "gqa",
     .files = {{"r.jsonl",
                "{\"id\":\"3\",\"question\":\"Q?\",\"answer\":\"a\",\"image\":\"/etc/passwd\"}\n"}},
     .says = "picture \"/etc/passwd\": a path below"},
    {.task = "gqa",
     .files = {{"r.jsonl", "{\"id\":\"3\",\"question\":\"Q?\",\"answer\":\"a\",\"image\":\"\"}\n"}},
     .says = "r.jsonl:1:1: the picture's name is empty"},
    /* question_ids repeat in the three files */
    {.task = "pope",
     .files = {{"coco_pope_random.json", "{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is "
                                         "there a dog? \",\"label\":\"yes\"}\n"},
               {"coco_pope_popular.json", "{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is "
                                          "there a dog? \",\"label\":\"yes\"}\n"}},
     .pictures = {"c.jpg"},
     .samples = 2,
     .want = {{0, "id", "pope/random/1"},
              {0, "ask", "<image>\nIs there a dog?" WORD},
              {0, "answer", "yes"},
              {1, "id", "pope/popular/1"},
              {1, "question_id", "popular/1"},
              {1, "category.0", "popular"}}},
    {.task = "pope",
     .files = {{"coco_pope_random.json", "{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is "
                                         "there a dog? \",\"label\":\"perhaps\"}\n"}},
     .says = "random.json:1:1: question \"random/1\", answer \"perhaps\": metric \"pope\": the "
             "reference must be yes or no"},
    {.task = "pope",
     .files = {{"coco_pope_random.json",
                "{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is there a dog? "
                "\",\"label\":\"yes\"}\n{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is "
                "there a dog? \",\"label\":\"no\"}\n"}},
     .pictures = {"c.jpg"},
     .says = "random.json:2:1: question \"random/1\" is there twice, first at "},
    {.task = "pope", .files = {{"q.json", ""}}, .says = "q.json:1:1: the file is empty"},
    /* videos are left out; pictures have no ending */
    {.task = "seedbench",
     .files = {{"q.json",
                "{\"question_type\":{\"Scene\":1,\"Action\":12},\"questions\":[{\"answer\":\"B\","
                "\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_c\":\"3\",\"choice_d\":\"4\","
                "\"data_id\":\"454529_316\",\"data_type\":\"image\",\"question\":\"How "
                "many?\",\"question_id\":\"101\",\"question_type_id\":1},{\"answer\":\"A\","
                "\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_c\":\"3\",\"choice_d\":\"4\","
                "\"data_id\":\"v0\",\"data_type\":\"video\",\"question\":\"How "
                "many?\",\"question_id\":\"v1\",\"question_type_id\":12}]}"}},
     .pictures = {"454529_316"},
     .samples = 1,
     .want = {{0, "id", "seedbench/101"},
              {0, "ask", "<image>\nHow many?\nA. 1\nB. 2\nC. 3\nD. 4" LETTER},
              {0, "answer", "B"},
              {0, "image", "454529_316"},
              {0, "category.1", "Scene"}}},
    {.task = "seedbench",
     .files = {{"q.json", "{\"data\":[]}"}},
     .says = "q.json:1:1: has no \"questions\": is this a file of seedbench?"},
    {.task = "seedbench",
     .files = {{"q.json",
                "{\"questions\":[{\"answer\":\"E\",\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_"
                "c\":\"3\",\"choice_d\":\"4\",\"data_id\":\"p\",\"data_type\":\"image\","
                "\"question\":\"How many?\",\"question_id\":\"1\",\"question_type_id\":1}]}"}},
     .says = "q.json:1:15: question \"1\": its answer is \"E\", and its options are A B C D"},
    {.task = "seedbench",
     .files = {{"q.json",
                "{\"questions\":[{\"answer\":\"A\",\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_"
                "c\":\"3\",\"choice_d\":\"4\",\"data_id\":\"p\",\"data_type\":\"sound\","
                "\"question\":\"How many?\",\"question_id\":\"1\",\"question_type_id\":1}]}"}},
     .says = "q.json:1:15: \"data_type\" is \"sound\": image or video is needed"},
    {.task = "realworldqa",
     .files = {{"q.json", "[{\"image\":\"0.webp\",\"question\":\"Which?\\n\\nA. Left\\nB. "
                          "Right\\n\",\"answer\":\"B\"},{\"image\":\"0.webp\",\"question\":\"Which?"
                          "\\n\\nA. Left\\nB. Right\\n\",\"answer\":\"B\"}]"}},
     .pictures = {"0.webp"},
     .samples = 2,
     .want = {{0, "id", "realworldqa/0.webp"},
              {0, "ask", "<image>\nWhich?\n\nA. Left\nB. Right"},
              {0, "answer", "B"},
              {1, "id", "realworldqa/0.webp/2"}}},
    {.task = "chartqa",
     .files = {{"test_human.json",
                "[{\"imgname\":\"1.png\",\"query\":\"How much?\",\"label\":\"10%\"}]"},
               {"test_augmented.json",
                "[{\"imgname\":\"1.png\",\"query\":\"How much?\",\"label\":\"3\"}]"}},
     .pictures = {"1.png"},
     .samples = 2,
     .want = {{0, "id", "chartqa/human_test/0"},
              {0, "ask", "<image>\nHow much?\nAnswer the question with a single word."},
              {0, "answer", "10%"},
              {1, "id", "chartqa/augmented_test/1"}}},
    {.task = "chartqa",
     .files = {{"q.json", "[{\"imgname\":\"1.png\",\"query\":\"How much?\",\"label\":\"3\"}]"}},
     .says = "q.json:1:2: is the question human or augmented?"},
    {.task = "docvqa",
     .files = {{"q.json", "{\"dataset_name\":\"x\",\"data\":[{\"questionId\":7,\"question\":\"Who?"
                          "\",\"image\":\"d.png\",\"answers\":[\"Ann\",\"ann b\"]}]}"}},
     .pictures = {"d.png"},
     .samples = 1,
     .want = {{0, "id", "docvqa/7"},
              {0, "ask", "<image>\nWho?" WORD},
              {0, "answer", "Ann"},
              {0, "answers.1", "ann b"}}},
    {.task = "docvqa",
     .files = {{"q.json",
                "{\"data\":[{\"questionId\":7,\"question\":\"Who?\",\"image\":\"d.png\"}]}"}},
     .says = "q.json:1:10: question \"7\" has no answer: where the answers of a part are not "
             "published"},
    {.task = "docvqa",
     .files = {{"q.json", "{\"data\":[{\"questionId\":7,\"question\":\"Who?\",\"image\":\"d.png\","
                          "\"answers\":[1]}]}"}},
     .says = "q.json:1:10: \"answers\" must be a list of strings, or of objects"},
    {.task = "docvqa",
     .files = {{"q.json", "{\"data\":[{\"questionId\":7,\"question\":\"Who?\",\"image\":\"d.png\","
                          "\"answers\":\"Ann\"}]}"}},
     .says = "q.json:1:10: \"answers\" must be a list"},
    {.task = "textvqa",
     .files = {{"q.json",
                "{\"data\":[{\"question_id\":3,\"image_id\":\"ab\",\"question\":\"what is THE \xc3"
                "\x89"
                "tat?\",\"answers\":[\"a\",\"a\",\"b\"]}]}"}},
     .pictures = {"ab.jpg"},
     .samples = 1,
     .want = {{0, "id", "textvqa/3"},
              {0, "ask",
               "<image>\nWhat is the \xc3"
               "\xa9"
               "tat?" WORD},
              {0, "answer", "a"},
              {0, "answers.2", "b"}}},
    {.task = "vqav2",
     .files = {{"r.jsonl",
                "{\"question_id\":9,\"question\":\"Q?\",\"image\":\"ab.jpg\",\"answers\":[{"
                "\"answer\":\"x\",\"answer_id\":1},{\"answer\":\"y\"}]}\n"}},
     .pictures = {"ab.jpg"},
     .samples = 1,
     .want = {{0, "id", "vqav2/9"},
              {0, "ask", "<image>\nQ?"},
              {0, "answer", "x"},
              {0, "answers.1", "y"}}},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"},
               {"a.json", "{\"info\":{\"annotations\":[]},\"annotations\":[{\"question_id\":43001,"
                          "\"answers\":[{\"answer\":\"b\"},{\"answer\":\"c\"}],\"image_id\":43},\n{"
                          "\"question_id\":42000,\"answers\":[{\"answer\":\"net\"}]}]}"}},
     .pictures = {"COCO_val2014_000000000042.jpg", "COCO_val2014_000000000043.jpg"},
     .samples = 2,
     .want = {{0, "id", "vqav2/42000"},
              {0, "answer", "net"},
              {0, "image", "COCO_val2014_000000000042.jpg"},
              {1, "answer", "b"},
              {1, "answers.1", "c"}}},
    /* in any order; an annotation without a question is told */
    {.task = "vqav2",
     .files = {{"a.json",
                "{\"info\":{\"annotations\":[]},\"annotations\":[{\"question_id\":43001,"
                "\"answers\":[{\"answer\":\"b\"},{\"answer\":\"c\"}],\"image_id\":43},\n{"
                "\"question_id\":42000,\"answers\":[{\"answer\":\"net\"}]},{\"question_id\":1}]}"},
               {"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"}},
     .pictures = {"COCO_val2014_000000000042.jpg", "COCO_val2014_000000000043.jpg"},
     .samples = 2,
     .want = {{0, "ask", "<image>\nWhat?"}}},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"}},
     .says = "q.json:1:40: has no answers: the file of annotations"},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"},
               {"a.json",
                "{\"annotations\":[{\"question_id\":42000,\"answers\":[{\"answer\":\"a\"}]}]}"}},
     .pictures = {"COCO_val2014_000000000042.jpg", "COCO_val2014_000000000043.jpg"},
     .says = "q.json:1:95: question \"43001\" has no annotation"},
    {.task = "vqav2",
     .files =
         {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,\"question\":"
                     "\"What?\",\"question_id\":42000},{\"image_id\":43,\"question\":\"Who?\","
                     "\"question_id\":43001}]}"},
          {"a.json",
           "{\"info\":{\"annotations\":[]},\"annotations\":[{\"question_id\":43001,\"answers\":[{"
           "\"answer\":\"b\"},{\"answer\":\"c\"}],\"image_id\":43},\n{\"question_id\":42000,"
           "\"answers\":[{\"answer\":\"net\"}]},{\"question_id\":42000}]}"}},
     .says = "a.json:2:52: question \"42000\" is annotated twice"},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"},
               {"a.json", "{\"annotations\":[{\"answers\":[]}]}"}},
     .says = "a.json:1:17: an annotation has no \"question_id\""},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000},{\"image_id\":43,"
                          "\"question\":\"Who?\",\"question_id\":43001}]}"},
               {"a.json", "{\"annotations\":7}"}},
     .says = "a.json:1:16: \"annotations\" must be a list"},
    {.task = "vqav2",
     .files = {{"q.json",
                "{\"questions\":[{\"image_id\":\"x\",\"question\":\"What?\",\"question_id\":1}]}"},
               {"a.json", "{\"info\":{\"annotations\":[]},\"annotations\":[{\"question_id\":43001,"
                          "\"answers\":[{\"answer\":\"b\"},{\"answer\":\"c\"}],\"image_id\":43},\n{"
                          "\"question_id\":42000,\"answers\":[{\"answer\":\"net\"}]}]}"}},
     .says = "q.json:1:15: the picture's name needs \"image_id\", a number"},
    {.task = "mme",
     .files = {{"count.txt", "1.jpg\tIs it one? Please answer yes or no.\tYes\r\n1.jpg\tIs it two? "
                             "Please answer yes or no.\tNo"}},
     .pictures = {"1.jpg"},
     .samples = 2,
     .want = {{0, "id", "mme/count/1.jpg/1"},
              {0, "ask", "<image>\nIs it one?" WORD},
              {0, "answer", "Yes"},
              {1, "group", "count/1.jpg"},
              {1, "category.0", "count"}}},
    {.task = "mme",
     .files = {{"count.txt", "1.jpg\tIs it one?\n"}},
     .says = "count.txt:1: a picture, a question and an answer with tabs between"},
    {.task = "mme",
     .files = {{"count.txt", "1.jpg\ta\tb\tc\n"}},
     .says = "count.txt:1: a picture, a question"},
    {.task = "mme",
     .files = {{"count.txt", "\n1.jpg\tIs it?\tmaybe\n"}},
     .says = "count.txt:2: question \"count/1.jpg/2\", answer \"maybe\": metric \"mme\": the "
             "reference must be yes or no"},
    {.task = "mme",
     .files = {{"count.txt", "1.jpg\tIs it one? Please answer yes or no.\tYes\r\n1.jpg\tIs it two? "
                             "Please answer yes or no.\tNo\n2.jpg\tIs it?\tNo\n"}},
     .pictures = {"1.jpg", "2.jpg"},
     .says = "count.txt:3: \"count/2.jpg\" has 1 question: two about each picture"},
    {.task = "mme",
     .files = {{"count.txt", "1.jpg\tIs it one? Please answer yes or no.\tYes\r\n1.jpg\tIs it two? "
                             "Please answer yes or no.\tNo"},
               {"counts.txt", "1.jpg\tIs it one? Please answer yes or no.\tYes\r\n1.jpg\tIs it "
                              "two? Please answer yes or no.\tNo"}},
     .pictures = {"1.jpg"},
     .says = "counts.txt:1: \"counts\" is no category of MME; there are: existence, count,"},
    /* without a picture: no mark; without a hint: no context */
    {.task = "scienceqa",
     .files = {{"q.json",
                "{\"5\":{\"question\":\"Which?\",\"choices\":[\"a\",\"b\"],\"answer\":1,\"hint\":"
                "\"Look.\",\"image\":\"image.png\",\"split\":\"test\",\"subject\":\"natural "
                "science\"},\"6\":{\"question\":\"Who?\",\"choices\":[\"a\"],\"answer\":0,\"hint\":"
                "\"\",\"image\":null,\"split\":\"test\"},\"7\":{\"question\":\"?\",\"choices\":["
                "\"a\"],\"answer\":0,\"split\":\"train\"}}"}},
     .pictures = {"5/image.png"},
     .samples = 2,
     .want = {{0, "id", "scienceqa/5"},
              {0, "ask", "<image>\nContext: Look.\nWhich?\nA. a\nB. b" LETTER},
              {0, "answer", "B"},
              {1, "ask", "Who?\nA. a" LETTER},
              {1, "image", NULL}}},
    {.task = "scienceqa",
     .files = {{"q.json", "{\"5\":{\"question\":\"Q\",\"choices\":[\"a\"],\"answer\":1}}"}},
     .says = "q.json:1:6: the answer is option 1, of 1"},
    {.task = "scienceqa",
     .files = {{"q.json", "{\"5\":{\"question\":\"Q\",\"choices\":7,\"answer\":1}}"}},
     .says = "q.json:1:6: the options must be a list of up to 26"},
    /* open questions are left out; pictures that no mark names are */
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"['it\\\\'s', \\\"b's\\\", '\\\\u00e9\\\\n' "
                "]\",\"answer\":\"B\",\"question_type\":\"multiple-choice\",\"subfield\":\"X\","
                "\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n{\"id\":\"validation_Art_"
                "Theory_2\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"[]\",\"answer\":\"x\",\"question_type\":\"open\",\"subfield\":"
                "\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .pictures = {"a", "b"},
     .samples = 1,
     .want = {{0, "id", "mmmu/validation_Art_Theory_1"},
              {0, "ask",
               "<image>\n<image>\nSee <image 2> and <image 1>?\nA. it's\nB. b's\nC. \xc3"
               "\xa9"
               "\n\n" LETTER},
              {0, "answer", "B"},
              {0, "images.0", "a"},
              {0, "images.1", "b"},
              {0, "images.2", NULL},
              {0, "category.0", "Art_Theory"},
              {0, "choices.2",
               "\xc3"
               "\xa9"
               "\n"}}},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":[\"a <image "
                "3>\",\"b\"],\"answer\":\"A\",\"question_type\":\"multiple-choice\",\"subfield\":"
                "\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .pictures = {"a", "b", "c"},
     .samples = 1,
     .want = {{0, "images.2", "c"}}},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"['a'\",\"answer\":\"A\",\"question_type\":\"multiple-choice\","
                "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"a\",\"answer\":\"A\",\"question_type\":\"multiple-choice\","
                "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"['a' "
                "'b']\",\"answer\":\"A\",\"question_type\":\"multiple-choice\",\"subfield\":\"X\","
                "\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files =
         {{"r.jsonl",
           "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
           "1>?\",\"options\":\"['\\\\x']\",\"answer\":\"A\",\"question_type\":\"multiple-choice\","
           "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"[1]\",\"answer\":\"A\",\"question_type\":\"multiple-choice\","
                "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
                "1>?\",\"options\":\"['a'] "
                "x\",\"answer\":\"A\",\"question_type\":\"multiple-choice\",\"subfield\":\"X\","
                "\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the options are \""},
    {.task = "mmmu",
     .files =
         {{"r.jsonl",
           "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
           "1>?\",\"options\":[\"a\",\"b\"],\"answer\":\"C\",\"question_type\":\"multiple-choice\","
           "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":\"b\",\"image_3\":\"c\"}\n"}},
     .says = "question \"validation_Art_Theory_1\": its answer is \"C\", and its options are A B"},
    {.task = "mmmu",
     .files =
         {{"r.jsonl",
           "{\"id\":\"validation_Art_Theory_1\",\"question\":\"See <image 2> and <image "
           "1>?\",\"options\":[\"a\",\"b\"],\"answer\":\"A\",\"question_type\":\"multiple-choice\","
           "\"subfield\":\"X\",\"image_1\":\"a\",\"image_2\":null,\"image_3\":\"c\"}\n"}},
     .says = "r.jsonl:1:1: the text names <image 2>, and there is no \"image_2\""},
    /* a cell with line break and quotes; a row whose picture is another's that comes later, one
 * whose comes before; the same bytes once more */
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD
                "1000241\t\"Which \"\"one\"\"\nis it?\"\tLook "
                "here.\tcat\tdog\t\tnan\tB\tc1\t241\tl1\n241\tWhich?\t\tdog\tcat\t\t\tA\tc1\t" JPEG
                "\tl1\n242\tWhat?\tnan\tx\ty\tz\tw\tD\tc2\t241\tl2\n243\tWhat?"
                "\t\tx\ty\tz\tw\tD\tc2\t" JPEG "\tl2\r\n"}},
     .samples = 4,
     .want = {{3, "id", "mmbench/1000241"},
              {3, "group", "241"},
              {3, "ask",
               "<image>\nLook here. Which \"one\"\nis it? There are several options:\nA. cat\nB. "
               "dog\n" LETTER},
              {3, "choices.1", "dog"},
              {3, "choices.2", NULL},
              {0, "ask", "<image>\nWhich? There are several options:\nA. dog\nB. cat\n" LETTER},
              {0, "image", PICTURE},
              {2, "image", PICTURE},
              {3, "image", PICTURE}}},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", "77")}},
     .says = "mmbench/1: its picture is that of row \"77\""},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "", JPEG)}},
     .says = "m.tsv:2: question \"1\" has no answer"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", "*" JPEG)}},
     .says = "m.tsv:2: \"image\": base64 of 81 characters"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", "***j" JPEG)}},
     .says = "m.tsv:2: \"image\": character 1 is not"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", "AAAA" JPEG)}},
     .says = "m.tsv:2: \"image\": the picture is neither"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "C", JPEG)}},
     .says = "m.tsv:2: question \"1\": its answer is \"C\", and its options are A B"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("x1", "A", JPEG)}},
     .says = "m.tsv:2: \"index\" is \"x1\": it must be the row's number"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1000001", "A", JPEG)}},
     .says =
         "m.tsv:2: a row of question 1 with its options turned, and the row with index 1 is not"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", JPEG) ROW("1", "B", JPEG)}},
     .says = "m.tsv:3: question \"1\" is there twice, first at "},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD "1\tQ\t\ta\n"}},
     .says = "m.tsv:2: the row has 4 cells, the first row 11"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD "1\t\"Q\t\ta\n"}},
     .says = "m.tsv:2: the row has a quote that is not closed"},
    {.task = "mmbench", .files = {{"m.tsv", HEAD}}, .says = "m.tsv: no question is left"},
    {.task = "mmbench",
     .files = {{"m.tsv", HEAD ROW("1", "A", JPEG)},
               {"r.jsonl",
                "{\"index\":2,\"question\":\"Q\",\"A\":\"a\",\"answer\":\"A\",\"image\":\"p\"}\n"}},
     .says = "r.jsonl:1:1: some pictures are in a table and others lie beside it"},
    /* contexts and choices: what is asked of all fields is in tests/data/lm_eval */
    {.task = "hellaswag",
     .files = {{"h.jsonl", "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                           "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                           "up.\",\"falls.\",\"x\",\"y\"],\"label\":1}"
                           "\n"}},
     .samples = 1,
     .want = {{0, "id", "hellaswag/24"},
              {0, "context", "Roofs: A man sits. He"},
              {0, "choices.0", "is up."}}},
    {.task = "hellaswag",
     .files = {{"d.jsonl", "{\"activity_label\":\"a\",\"ctx_a\":\"b\",\"ctx_b\":\"c\",\"endings\":["
                           "\"d\",\"e\",\"f\",\"g\"],\"label\":\"\"}"
                           "\n"}},
     .says = "d.jsonl:1:1: no choice is its answer"},
    {.task = "arc",
     .files = {{"a.jsonl",
                "{\"id\":\"M1\",\"question\":{\"stem\":\"Which?\",\"choices\":[{\"text\":\"ice\","
                "\"label\":\"A\"},{\"text\":\"fire\",\"label\":\"B\"}]},\"answerKey\":\"B\"}"
                "\n"}},
     .samples = 1,
     .want = {{0, "id", "arc/M1"},
              {0, "context", "Question: Which?\nAnswer:"},
              {0, "choices.1", "fire"}}},
    {.task = "arc",
     .files = {{"d.jsonl", "{\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\"],\"label\":["
                           "\"A\",\"B\"]},\"answerKey\":\"C\"}"
                           "\n"}},
     .says = "\"answerKey\" is \"C\", which is no choice's label"},
    {.task = "arc",
     .files = {{"d.jsonl",
                "{\"question\":{\"stem\":\"q\",\"choices\":[{\"text\":\"a\"}]},\"answerKey\":\"A\"}"
                "\n"}},
     .says = "a choice needs \"text\" and \"label\""},
    {.task = "piqa",
     .files = {{"r.jsonl",
                "{\"goal\":\"Open it\",\"sol1\":\"turn the lid\",\"sol2\":\"break it\",\"label\":0}"
                "\n"},
               {"s.jsonl",
                "{\"goal\":\"Open it\",\"sol1\":\"turn the lid\",\"sol2\":\"break it\",\"label\":0}"
                "\n"}},
     .samples = 2,
     .want = {{0, "context", "Question: Open it\nAnswer:"},
              {0, "choices.0", "turn the lid"},
              {1, "id", "piqa/2"}}},
    {.task = "piqa",
     .files = {{"d.jsonl", "{\"goal\":\"g\",\"sol1\":\"a\",\"label\":0}"
                           "\n"}},
     .says = "\"sol1\" or \"sol2\" is missing"},
    {.task = "openbookqa",
     .files = {{"o.jsonl",
                "{\"id\":\"7-1\",\"question_stem\":\"The sun is\",\"choices\":{\"text\":[\"a "
                "star\",\"a moon\"],\"label\":[\"A\",\"B\"]},\"answerKey\":\"A\"}"
                "\n"}},
     .samples = 1,
     .want = {{0, "id", "openbookqa/7-1"},
              {0, "context", "The sun is"},
              {0, "choices.1", "a moon"}}},
    {.task = "openbookqa",
     .files = {{"d.jsonl", "{\"question_stem\":\"q\",\"choices\":[],\"answerKey\":\"A\"}"
                           "\n"}},
     .says = "has 0 choices"},
    {.task = "winogrande",
     .files = {{"w.jsonl", "{\"qID\":\"w1\",\"sentence\":\"It is so as the _ is "
                           "big.\",\"option1\":\"cup\",\"option2\":\"case\",\"answer\":\"2\"}"
                           "\n"}},
     .samples = 1,
     .want = {{0, "id", "winogrande/w1"},
              {0, "contexts.1", "It is so as the case"},
              {0, "continuation", "is big."}}},
    {.task = "winogrande",
     .files = {{"d.jsonl",
                "{\"sentence\":\"s\",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"1\"}"
                "\n"}},
     .says = "has no gap"},
    {.task = "mmlu",
     .files =
         {{"m.jsonl",
           "{\"question\":\" What is 2 + 2? "
           "\",\"subject\":\"abstract_algebra\",\"choices\":[\"3\",\"4\",\"5\",\"6\"],\"answer\":1}"
           "\n"}},
     .samples = 1,
     .want = {{0, "id", "mmlu/1"}, {0, "choices.3", "D"}, {0, "category", "abstract_algebra"}}},
    {.task = "mmlu",
     .files = {{"d.jsonl", "{\"question\":\"q\",\"subject\":\"s\",\"choices\":[\"a\"],\"answer\":0}"
                           "\n"}},
     .says = "has 1 choices, and not 4"},
    /* labels that are none, or not whole; ids that repeat; half a record */
    {.task = "hellaswag",
     .files = {{"h.jsonl", "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                           "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                           "up.\",\"falls.\",\"x\",\"y\"],\"label\":1.5}\n"}},
     .says = "h.jsonl:1:1: \"label\" is \"1.5\": a whole number from 0 to 3 is needed"},
    {.task = "hellaswag",
     .files = {{"h.jsonl", "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                           "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                           "up.\",\"falls.\",\"x\",\"y\"],\"label\":\"-1\"}\n"}},
     .says = "no choice is its answer: where"},
    {.task = "hellaswag",
     .files = {{"h.jsonl",
                "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                "up.\",\"falls.\",\"x\",\"y\"],\"label\":1}\n{\"ind\":24,\"activity_label\":"
                "\"Roofs\",\"ctx_a\":\"A man sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                "up.\",\"falls.\",\"x\",\"y\"],\"label\":2}\n"}},
     .says = "h.jsonl:2:1: question \"24\" is there twice, first at "},
    {.task = "hellaswag",
     .files = {{"h.jsonl", "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                           "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                           "up.\",\"falls.\",\"x\"],\"label\":1}\n"}},
     .says = "has 3 endings, and not 4"},
    {.task = "hellaswag",
     .files = {{"h.jsonl", "{\"ind\":24,\"activity_label\":\"Roofs\",\"ctx_a\":\"A man "
                           "sits.\",\"ctx_b\":\"he\",\"endings\":[\"is [x] "
                           "up.\",\"falls.\",\"x\",\"y\"],\"label\":1.0}\n"}},
     .samples = 1,
     .want = {{0, "id", "hellaswag/24"}}},
    {.task = "arc",
     .files = {{"a.jsonl", "{\"id\":\"M1\",\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\","
                           "\"c\"],\"label\":[\"A\",\"B\"]},\"answerKey\":\"A\"}\n"}},
     .says = "has 3 choices and 2 labels"},
    {.task = "arc",
     .files = {{"a.jsonl", "{\"id\":\"M1\",\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\","
                           "\"c\"],\"label\":[\"A\",\"A\",\"B\"]},\"answerKey\":\"A\"}\n"}},
     .says = "two choices have the label \"A\""},
    {.task = "arc",
     .files = {{"a.jsonl",
                "{\"id\":\"M1\",\"question\":{\"stem\":\"q\",\"choices\":[{\"text\":\"a\","
                "\"label\":\"A\"},{\"text\":\"b\",\"label\":\"A\"}]},\"answerKey\":\"A\"}\n"}},
     .says = "two choices have the label \"A\""},
    {.task = "arc",
     .files = {{"a.jsonl", "{\"id\":\"M1\",\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\","
                           "\"c\"],\"label\":[\"A\",\"B\",\"C\"]},\"answerKey\":\"A\"}\n"},
               {"b.jsonl", "{\"id\":\"M1\",\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\","
                           "\"c\"],\"label\":[\"A\",\"B\",\"C\"]},\"answerKey\":\"A\"}\n"}},
     .says = "b.jsonl:1:1: question \"M1\" is there twice"},
    {.task = "piqa",
     .files = {{"r.jsonl",
                "{\"id\":\"p\",\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":2}\n"}},
     .says = "\"label\" is \"2\": a whole number from 0 to 1"},
    {.task = "winogrande",
     .files = {{"w.jsonl", "{\"qID\":\"w1\",\"sentence\":\"abc "
                           "_\",\"option1\":\"cup\",\"option2\":\"case\",\"answer\":\"1\"}\n"}},
     .says = "nothing follows the gap"},
    {.task = "winogrande",
     .files = {{"w.jsonl", "{\"qID\":\"w1\",\"sentence\":\"abc _ "
                           "d\",\"option1\":\"cup\",\"option2\":\"case\",\"answer\":\"0\"}\n"}},
     .says = "\"answer\" is \"0\": a whole number from 1 to 2"},
    {.task = "winogrande",
     .files = {{"w.jsonl", "{\"qID\":\"w1\",\"sentence\":\"abc _ "
                           "d\",\"option1\":\"\",\"option2\":\"case\",\"answer\":\"1\"}\n"}},
     .says = "\"option1\" or \"option2\" is missing"},
    {.task = "mmlu",
     .files = {{"m.jsonl", "{\"question\":\"q\",\"subject\":\"s\",\"choices\":[\"3\",\"4\",\"5\","
                           "\"6\"],\"answer\":\"D\"}\n"}},
     .says = "\"answer\" is \"D\": a whole number from 0 to 3"},
    {.task = "mmlu",
     .files = {{"m.jsonl", "{\"question\":\"q\",\"subject\":\"s\",\"choices\":[\"3\",\"4\",\"5\","
                           "\"6\"],\"answer\":2.9}\n"}},
     .says = "\"answer\" is \"2.9\": a whole number"},
    {.task = "mmlu",
     .files = {{"m.jsonl", "{\"question\":\"q\",\"subject\":\"s\",\"choices\":[\"3\",\"4\",\"5\","
                           "\"6\"],\"answer\":4}\n"}},
     .says = "\"answer\" is \"4\": a whole number"},
    {.task = "mmlu",
     .files = {{"m.jsonl", "{\"question\":\"q\",\"subject\":\"\",\"choices\":[\"3\",\"4\",\"5\","
                           "\"6\"],\"answer\":1}\n"}},
     .says = "has no \"question\" or \"subject\""},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_1\",\"question\":\"See <image "
                "8>?\",\"options\":[\"a\",\"b\"],\"answer\":\"A\",\"image_1\":\"a\"}\n"}},
     .says = "r.jsonl:1:1: the text names <image 8>: a question has up to 7 pictures"},
    {.task = "mmmu",
     .files = {{"r.jsonl",
                "{\"id\":\"validation_Art_1\",\"question\":\"See <image "
                "10>?\",\"options\":[\"a\",\"b\"],\"answer\":\"A\",\"image_1\":\"a\"}\n"}},
     .says = "the text names <image 10>"},
    {.task = "vqav2",
     .files = {{"q.json", "{\"data_subtype\":\"val2014\",\"questions\":[{\"image_id\":42,"
                          "\"question\":\"What?\",\"question_id\":42000}]}"},
               {"a.json", "{\"annotations\":[{\"question_id\":42000,\"image_id\":43,\"answers\":[{"
                          "\"answer\":\"a\"}]}]}"}},
     .says = "q.json:1:40: the question is about image_id 42, and its annotation about 43"},
    {.task = "vqav2",
     .files = {{"r.jsonl", "{\"question_id\":9,\"question\":\"Is <image> "
                           "one?\",\"image\":\"a\",\"answers\":[\"x\"]}\n"}},
     .says = "r.jsonl:1:1: question \"9\" has \"<image>\" in its text"},
};

#endif
